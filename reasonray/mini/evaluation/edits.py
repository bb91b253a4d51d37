"""Edits of held-out scenes with their truth: what an editor of the mini world is measured on."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from reasonray.mini.evaluation.scenes import FIRST_SEED
from reasonray.mini.knowledge import DIRECT_TEMPLATES, facts, knowledge, reasoning_candidate
from reasonray.mini.training.questions import apart, object_apart, rests_on_apart
from reasonray.prompts.direct import direct_sentence
from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS
from reasonray.sources.mini.world import Scene, caption, replaced, sample_scene


@dataclass(frozen=True)
class Edit:
    """One object of a scene becomes another.

    Attributes:
        scene: before.
        index: of the object that is meant.
        target: the category that it becomes.
        instruction: how that is said.
    """

    scene: Scene
    index: int
    target: str
    instruction: str

    @property
    def truth(self) -> Scene:
        """The scene with the object replaced."""
        return replaced(self.scene, self.index, self.target)

    @property
    def target_caption(self) -> str:
        """The caption of the truth."""
        return caption(self.truth)


def direct(scene: Scene, rng: random.Random) -> Edit | None:
    """Says plainly what becomes what; any object, any category that is not in the scene."""
    index, target = _any(scene, rng)
    template, phrase = rng.choice(DIRECT_TEMPLATES), CATEGORIES[target].phrase
    text = direct_sentence(template, scene.categories[index], phrase)
    return Edit(scene, index, target, text)


def reasoning(scene: Scene, rng: random.Random) -> Edit | None:
    """Names neither; rests on a fact or a sentence that the multimodal model never was told so."""
    index, target = _any(scene, rng)
    selected = scene.categories[index]
    if not any(apart(fact) for _, fact in facts(target)):
        return None
    others = [name for name in scene.categories if name != selected]
    while True:
        text = reasoning_candidate(selected, target, rng, others=others).instruction
        if rests_on_apart(text, selected, target):
            return Edit(scene, index, target, text)


def relational(scene: Scene, rng: random.Random) -> Edit | None:
    """The same sentence for every picture; which object "it" is, and what it leads to, shows there.

    Figure 14's kind: only one object of the scene has the relation.
    """
    relation = rng.choice(sorted(RELATIONS))
    sentence = rng.choice(_about_it(relation))
    return _by_relation(scene, relation, sentence)


def unheard(scene: Scene, rng: random.Random) -> Edit | None:
    """Relational, with a sentence that the multimodal model has never heard of this object."""
    relation = rng.choice(sorted(RELATIONS))
    unheard_of = {s: object_apart(relation, s) for s in _about_it(relation)}
    sentences = [s for s, name in unheard_of.items() if name in scene.categories]
    if not sentences:
        return None
    sentence = rng.choice(sentences)
    edit = _by_relation(scene, relation, sentence)
    return edit if edit and scene.categories[edit.index] == unheard_of[sentence] else None


def _about_it(relation: str) -> list[str]:
    # "of it" is no English here.
    known = knowledge()["relations"][relation]["sentences"]
    return [sentence for sentence in known if "of {s}" not in sentence]


def _by_relation(scene: Scene, relation: str, sentence: str) -> Edit | None:
    pairs = RELATIONS[relation]
    able = [i for i, name in enumerate(scene.categories) if name in pairs]
    if len(able) != 1 or pairs[scene.categories[able[0]]] in scene.categories:
        return None
    text = sentence.format(s="it", poss="its")
    target = pairs[scene.categories[able[0]]]
    return Edit(scene, able[0], target, text[0].upper() + text[1:])


KINDS: dict[str, Callable[[Scene, random.Random], Edit | None]] = {
    "direct": direct,
    "reasoning": reasoning,
    "relational": relational,
    "unheard": unheard,
}


def edits(kind: str, count: int) -> list[Edit]:
    """The first `count` edits of a kind, one a scene; the same at every evaluation."""
    seeds = itertools.count(FIRST_SEED)
    tried = (KINDS[kind](sample_scene(seed), random.Random(f"{kind} {seed}")) for seed in seeds)
    return list(itertools.islice((edit for edit in tried if edit is not None), count))


def _any(scene: Scene, rng: random.Random) -> tuple[int, str]:
    index = rng.randrange(len(scene.objects))
    return index, rng.choice([name for name in CATEGORIES if name not in scene.categories])

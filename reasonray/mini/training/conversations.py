"""What the zoo's language model is taught: the shipped prompts about mini scenes, and replies.

Everything goes through the code of production: the prompt templates write the questions, the
parser says what is wrong with a bad reply before the question is asked again.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reasonray.core.record import Detection
from reasonray.core.sections import GroundConfig
from reasonray.mini.knowledge import (
    DIRECT_TEMPLATES,
    change,
    knowledge,
    reasoning_candidate,
    relation_rationales,
)
from reasonray.models.detector import PhraseBox
from reasonray.prompts.direct import direct_sentence
from reasonray.prompts.examples import varied
from reasonray.prompts.objects import listed
from reasonray.prompts.replies import (
    Candidate,
    ReplyError,
    parse_candidates,
    parse_choice,
    parse_replacement,
)
from reasonray.prompts.template import Message, ask_again, load, numbered
from reasonray.prompts.words import introduced
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import PLAIN, REAL, Scene, caption, replaced, sample_scene
from reasonray.stages.instances import offered

REAL_SCENES = 0.35
"""Share of conversations about scenes with several of a kind, holders, adjectives and titles."""

GROUND = GroundConfig(max_area=0.5)
"""As in the mini recipe."""

AGAIN = 0.12
"""Share of conversations in which a first reply was refused."""


@dataclass(frozen=True)
class Conversation:
    """A question (chat messages) and the reply that is taught."""

    messages: list[Message]
    reply: str


@dataclass(frozen=True)
class Edit:
    """A scene in words, and what is replaced by what.

    Attributes:
        scene: plain or real.
        detections: what `ground` would offer of it, by category.
        selected: one of them.
        target: in the scene nowhere.
    """

    scene: Scene
    detections: Mapping[str, Detection]
    selected: str
    target: str

    @property
    def others(self) -> list[str]:
        """What else is in the scene."""
        return [name for name in self.scene.categories if name != self.selected]

    @property
    def qualifier(self) -> str:
        """Which of several of the selected is meant; empty where there is one."""
        return self.detections[self.selected].get("qualifier") or ""

    @property
    def before(self) -> str:
        """The scene's caption before the edit."""
        return caption(self.scene)

    @property
    def after(self) -> str:
        """The caption after the edit."""
        box = self.detections[self.selected]["box"]
        places = [
            place
            for place, item in enumerate(self.scene.objects)
            if item.category == self.selected and list(self.scene.visible(item)) == box
        ]
        return caption(replaced(self.scene, places[0], self.target))


def conversation(seed: int, *, scene_seeds: range) -> Conversation:
    """The conversation of a seed, about a scene with a seed from the range."""
    rng = random.Random(seed)
    kind = rng.choices([_replace, _gen, _select], [0.68, 0.18, 0.14])[0]
    return kind(sample_edit(rng, scene_seeds), rng)


def sample_edit(rng: random.Random, scene_seeds: range) -> Edit:
    """A scene with a seed from the range, and an edit of it: half of them follow a relation."""
    while True:
        scenery = REAL if rng.random() < REAL_SCENES else PLAIN
        scene = sample_scene(rng.randrange(scene_seeds.start, scene_seeds.stop), scenery=scenery)
        detections = true_detections(scene, rng)
        known = [name for name in detections if name in CATEGORIES]
        if known:
            selected, target = change(known, rng)
            if target not in scene.categories:
                return Edit(scene, detections, selected, target)


def true_detections(scene: Scene, rng: random.Random) -> dict[str, Detection]:
    """What `ground` offers of a scene where the detector finds all that is there."""
    boxes = [
        PhraseBox(item.category, scene.visible(item), 0.5 + 0.5 * rng.random())
        for item in scene.objects
    ]
    size = (scene.width, scene.height)
    detections = offered(boxes, size, GROUND, caption(scene))
    return {item["category"]: item for item in detections}


def _replace(edit: Edit, rng: random.Random) -> Conversation:
    names = list(edit.detections)
    if rng.random() < 0.4:
        rng.shuffle(names)
        names = [name for name in names if name == edit.selected or rng.random() < 0.6]
    several = [name for name in names if edit.detections[name].get("qualifier")]
    candidate = reasoning_candidate(
        edit.selected, edit.target, rng, others=edit.others, qualifier=edit.qualifier
    )
    messages = load("replace").messages(
        caption=edit.before,
        categories=", ".join(names),
        objects=listed({name: edit.detections[name].get("about") for name in names}),
        **_varied("replace", rng, [candidate]),
    )
    content = {
        "selected_category": edit.selected,
        "target_category": edit.target,
        **asdict(candidate),
        "edited_caption": edit.after,
    }
    if rng.random() < AGAIN:
        absent = rng.choice([name for name in CATEGORIES if name not in edit.scene.categories])
        spoilt = rng.choice(
            [
                {**content, "selected_category": absent},
                {**content, "target_category": rng.choice(edit.scene.categories)},
                {**content, "instruction": _direct(edit, rng)},
                content,
            ]
        )
        bad = _spoil(spoilt, content, rng)
        reason = _refusal(
            lambda: parse_replacement(bad, caption=edit.before, categories=names, several=several)
        )
        messages = ask_again(messages, bad, reason)
    return Conversation(messages, json.dumps(content))


def _gen(edit: Edit, rng: random.Random) -> Conversation:
    count = rng.choices([2, 3, 4, 5], [0.15, 0.6, 0.15, 0.1])[0]
    direct = _direct(edit, rng)
    edit_fields = {
        "input_caption": edit.before,
        "edited_caption": edit.after,
        "direct_instruction": direct,
    }
    candidates = _good(edit, count, rng, introduced(edit.before, edit.after, direct))
    messages = load("gen").messages(
        **edit_fields, num_candidates=str(count), **_varied("gen", rng, candidates)
    )
    content = {"candidates": [asdict(candidate) for candidate in candidates]}
    if rng.random() < AGAIN:
        named = {**asdict(candidates[0]), "instruction": _direct(edit, rng)}
        first = content["candidates"][0]
        # One bad candidate is no fault of a reply: less than two good ones are.
        spoilt = {"candidates": rng.choice([[first], [first] * count, [named] * count])}
        bad = _spoil(spoilt, content, rng)
        reason = _refusal(lambda: parse_candidates(bad, **edit_fields, num_candidates=count))
        messages = ask_again(messages, bad, reason)
    return Conversation(messages, json.dumps(content))


def _select(edit: Edit, rng: random.Random) -> Conversation:
    count = rng.choices([2, 3, 4, 5], [0.15, 0.6, 0.15, 0.1])[0]
    num_good = count if rng.random() < 0.5 else rng.randrange(1, count)
    direct = _direct(edit, rng)
    good = _good(edit, num_good, rng, introduced(edit.before, edit.after, direct))
    listed = [(candidate.instruction, True) for candidate in good]
    listed += [(_decoy(edit, rng), False) for _ in range(count - num_good)]
    rng.shuffle(listed)
    messages = load("select").messages(
        input_caption=edit.before,
        edited_caption=edit.after,
        direct_instruction=direct,
        candidates=numbered([text for text, _ in listed]),
    )
    known = relation_rationales(edit.selected, edit.target)
    relational = {c.instruction for c in good if c.rationale in known}
    fit = [i for i, (text, _) in enumerate(listed) if text in relational]
    why = "relation" if fit else "only" if num_good == 1 else "fact"
    fit = fit or [i for i, (_, is_good) in enumerate(listed) if is_good]
    content = {"choice": rng.choice(fit) + 1, "reason": knowledge()["choice_reasons"][why]}
    if rng.random() < AGAIN:
        bad = _spoil({**content, "choice": rng.choice([0, count + 1])}, content, rng)
        reason = _refusal(lambda: parse_choice(bad, num_candidates=count))
        messages = ask_again(messages, bad, reason)
    return Conversation(messages, json.dumps(content))


def _varied(name: str, rng: random.Random, candidates: Sequence[Candidate]) -> dict[str, str]:
    """The prompt's varying fields; the kind of reasoning wanted is mostly that of a candidate."""
    fields = varied(name, rng.getrandbits(32))
    if rng.random() < 0.7:
        fields["reasoning_type"] = rng.choice(candidates).reasoning_type
    return fields


def _good(edit: Edit, count: int, rng: random.Random, telling: list[str]) -> list[Candidate]:
    """So many reasoning instructions for the edit, each resting on another idea."""
    by_rationale: dict[str, Candidate] = {}
    while len(by_rationale) < count:
        candidate = reasoning_candidate(
            edit.selected,
            edit.target,
            rng,
            others=edit.others,
            telling=telling,
            relational=0.35,
            qualifier=edit.qualifier,
        )
        if all(candidate.instruction != other.instruction for other in by_rationale.values()):
            by_rationale.setdefault(candidate.rationale, candidate)
    return list(by_rationale.values())


def _decoy(edit: Edit, rng: random.Random) -> str:
    """An instruction that names the target or leads to something else."""
    if rng.random() < 0.5:
        return _direct(edit, rng)
    wrong = rng.choice([n for n in CATEGORIES if n not in (edit.selected, edit.target)])
    return reasoning_candidate(edit.selected, wrong, rng, others=edit.others).instruction


def _direct(edit: Edit, rng: random.Random) -> str:
    template, phrase = rng.choice(DIRECT_TEMPLATES), CATEGORIES[edit.target].phrase
    selected = " ".join(filter(None, (edit.qualifier, edit.selected)))
    return direct_sentence(template, selected, phrase, capital=rng.random() < 0.5)


def _spoil(spoilt: dict[str, Any], content: dict[str, Any], rng: random.Random) -> str:
    """A bad reply: the spoilt content, or what was right but broken off, or nothing."""
    text = json.dumps(content)
    broken = text[: rng.randrange(len(text))] if rng.random() < 0.8 else ""
    return broken if spoilt == content or rng.random() < 0.25 else json.dumps(spoilt)


def _refusal(parse: Callable[[], object]) -> str:
    try:
        parse()
    except ReplyError as error:
        return error.reason
    raise AssertionError("a spoilt reply was accepted")

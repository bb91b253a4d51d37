"""What the zoo's multimodal language model is taught: questions about scenes, and their answers.

What is where, which thing is meant, what it makes or goes with, what a fact is about, and what an
instruction would change. Kept apart for evaluation: a fifth of the facts, which the model hears in
questions but in no instruction, and, for a fifth of the relations' sentences, one object that it
never hears them of.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reasonray.mini.knowledge import (
    DIRECT_TEMPLATES,
    change,
    facts,
    knowledge,
    reasoning_candidate,
    refer,
)
from reasonray.prompts.direct import direct_sentence
from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS
from reasonray.sources.mini.world import Scene, caption

APART_EVERY = 5
DIRECT = 0.35
"""Of the instructions, those that name what becomes what."""
LOWER = 0.3
"""Of the instructions, those that begin as people type."""

KINDS = {
    "caption": 0.06,
    "where": 0.12,
    "reference": 0.08,
    "relation": 0.16,
    "fact": 0.18,
    "instruction": 0.4,
}
"""What is asked, and how often."""

RELATION_QUESTIONS = {
    "makes": ("What does {s} make?", "What do people get from {s}?"),
    "made by": ("Who makes {s}?", "Which animal do people get {s} from?"),
    "eats": ("What does {s} like to eat?", "What is the favourite meal of {s}?"),
    "eaten by": ("Who likes to eat {s}?", "Which animal has {s} for dinner?"),
    "turns into": ("What does {s} turn into with time?", "What does {s} become in the end?"),
    "comes from": ("What was {s} when it was young?", "What does {s} grow out of?"),
    "replaced by": ("What do people use today in place of {s}?", "What took over from {s}?"),
    "used before": ("What did people use before {s}?", "What did the task of {s} in former times?"),
    "used with": ("What is {s} used with?", "What does {s} belong together with?"),
}
FACT_QUESTIONS = ("What is {np}?", "What is meant by {np}?", "Name {np}.")
REFERENCE_QUESTIONS = ("Which thing is {s}?", "What is {s}?", "Name {s} in the picture.")
CAPTION_QUESTIONS = ("What is in the picture?", "Describe the picture.", "What do you see?")
WAYS = ("none", "direct", "fact", *RELATIONS)
"""How an answer follows: it is named, a fact fits it, or a relation leads to it."""

POSITIONS = ("on the left", "in the middle", "on the right")


@dataclass(frozen=True)
class Question:
    """A question about a scene and its answer.

    Attributes:
        text, answer: what is asked and said.
        subject: the category of the object that is spoken of, if there is one.
        target: the category that the answer leads to, if there is one.
        way: of `WAYS`.
    """

    text: str
    answer: str
    subject: str | None = None
    target: str | None = None
    way: str = "none"


def apart(text: str) -> bool:
    """Whether a fact, or a sentence with one object, is kept apart for the evaluation."""
    return zlib.crc32(text.encode()) % APART_EVERY == 0


def object_apart(relation: str, sentence: str) -> str | None:
    """The category that a relation's sentence is never said of in training, if there is one."""
    able = sorted(RELATIONS[relation])
    if not apart(sentence) or len(able) < 3:
        return None
    return able[zlib.crc32(sentence.encode()) // APART_EVERY % len(able)]


def question(scene: Scene, rng: random.Random, kind: str | None = None) -> Question:
    """A question about a scene, of one of `KINDS`; drawn when None."""
    ask = {
        "caption": _caption,
        "where": _where,
        "reference": _reference,
        "relation": _relation,
        "fact": _fact,
        "instruction": _instruction,
    }
    return ask[kind or rng.choices(list(KINDS), list(KINDS.values()))[0]](scene, rng)


def question_apart(scene: Scene, rng: random.Random) -> Question:
    """What an instruction would change that rests on something kept apart; never in training."""
    while True:
        selected, target = change(scene.categories, rng)
        text = _reasoning_instruction(selected, target, rng, scene.categories)
        if rests_on_apart(text, selected, target):
            return Question(text, _change(selected, target), selected, target)


def _caption(scene: Scene, rng: random.Random) -> Question:
    return Question(rng.choice(CAPTION_QUESTIONS), caption(scene))


def _where(scene: Scene, rng: random.Random) -> Question:
    names = scene.categories
    index = rng.randrange(len(names))
    places = {1: POSITIONS[1:2], 2: POSITIONS[::2], 3: POSITIONS}[len(names)]
    if rng.random() < 0.5:
        subject = f"the {names[index]}" if rng.random() < 0.5 else refer(names[index], rng)
        return Question(f"Where is {subject}?", places[index], names[index])
    return Question(f"What is {places[index]}?", _definite(names[index]), names[index])


def _reference(scene: Scene, rng: random.Random) -> Question:
    name = rng.choice(scene.categories)
    text = rng.choice(REFERENCE_QUESTIONS).format(s=refer(name, rng))
    return Question(text, _definite(name), name)


def _relation(scene: Scene, rng: random.Random) -> Question:
    name = rng.choice(scene.categories)
    names = [relation for relation, pairs in RELATIONS.items() if name in pairs]
    if not names:
        return _reference(scene, rng)
    relation = rng.choice(names)
    unique = sum(other in RELATIONS[relation] for other in scene.categories) == 1
    subject = "it" if unique and rng.random() < 0.4 else refer(name, rng)
    subject = f"the {name}" if subject != "it" and rng.random() < 0.3 else subject
    target = RELATIONS[relation][name]
    text = rng.choice(RELATION_QUESTIONS[relation]).format(s=subject)
    return Question(text, CATEGORIES[target].phrase, name, target, relation)


def _fact(_: Scene, rng: random.Random) -> Question:
    target = rng.choice(sorted(CATEGORIES))
    text = rng.choice(FACT_QUESTIONS).format(np=rng.choice(facts(target))[1])
    return Question(text, CATEGORIES[target].phrase, None, target, "fact")


def _instruction(scene: Scene, rng: random.Random) -> Question:
    selected, target = change(scene.categories, rng)
    way = "direct"
    if rng.random() < DIRECT:
        template, phrase = rng.choice(DIRECT_TEMPLATES), CATEGORIES[target].phrase
        text = direct_sentence(template, selected, phrase)
    else:
        text = training_instruction(selected, target, rng, scene.categories)
        way = _relation_in(text) or "fact"
    if rng.random() < LOWER:
        text = text[0].lower() + text[1:]
    return Question(text, _change(selected, target), selected, target, way)


def _change(selected: str, target: str) -> str:
    return f"{_definite(selected)} becomes {CATEGORIES[target].phrase}"


def training_instruction(
    selected: str, target: str, rng: random.Random, categories: Sequence[str]
) -> str:
    """A reasoning instruction that uses nothing of what is kept apart."""
    while True:
        text = _reasoning_instruction(selected, target, rng, categories)
        if not rests_on_apart(text, selected, target):
            return text


def _reasoning_instruction(
    selected: str, target: str, rng: random.Random, categories: Sequence[str]
) -> str:
    others = [name for name in categories if name != selected]
    return reasoning_candidate(selected, target, rng, others=others).instruction


def rests_on_apart(instruction: str, selected: str, target: str) -> bool:
    """Whether an instruction tells a fact, or says a sentence of an object, that is kept apart."""
    text = instruction.lower()
    if any(apart(fact) and fact.lower() in text for _, fact in facts(target)):
        return True
    return any(
        object_apart(relation, sentence) == selected and _opening(sentence) in text
        for relation, sentence in _relation_sentences()
    )


def _relation_in(instruction: str) -> str | None:
    """The relation that one of its sentences in an instruction speaks of; None: a fact is told."""
    text = instruction.lower()
    found = (relation for relation, said in _relation_sentences() if _opening(said) in text)
    return next(found, None)


def _relation_sentences() -> Iterator[tuple[str, str]]:
    for relation, known in knowledge()["relations"].items():
        for sentence in known["sentences"]:
            yield relation, sentence


def _opening(sentence: str) -> str:
    """The longest fixed piece of a sentence, which no other sentence has."""
    pieces = sentence.lower().replace("{poss}", "{s}").split("{s}")
    return max(pieces, key=len)


def _definite(category: str) -> str:
    return f"the {category}"

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
    related,
)
from reasonray.prompts.direct import direct_sentence
from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS
from reasonray.sources.mini.world import Scene, caption

APART_EVERY = 5
DIRECT = 0.25
"""Of the instructions, those that name what becomes what."""
PHRASES = 0.3
"""Of the others that a relation fits, those that spell it out."""
LOWER = 0.3
"""Of the instructions, those that begin as people type."""

KINDS = {
    "caption": 0.05,
    "where": 0.1,
    "reference": 0.08,
    "relation": 0.14,
    "fact": 0.18,
    "instruction": 0.45,
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
RELATION_PHRASES = {
    "makes": ("what it makes", "the thing that people get from it"),
    "made by": ("the one who makes it", "the animal that people get it from"),
    "eats": ("what it likes to eat", "the thing that it has for dinner"),
    "eaten by": ("the one who likes to eat it", "the animal that has it for dinner"),
    "turns into": ("what it turns into with time", "the thing that it becomes in the end"),
    "comes from": ("what it was when it was young", "the thing that it grew out of"),
    "replaced by": ("what people use today in its place", "the thing that took over from it"),
    "used before": ("what people used before it", "the thing that did its task in former times"),
    "used with": ("what it is used with", "the thing that it belongs together with"),
}
"""In a fact's place in an instruction: one that has been heard of every object, in all frames."""
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
        relations = related(selected, target)
        if relations and rng.random() < PHRASES:
            text = _relation_phrase(rng.choice(relations), selected, rng, categories)
        else:
            text = _reasoning_instruction(selected, target, rng, categories)
        if not rests_on_apart(text, selected, target):
            return text


def _relation_phrase(
    relation: str, selected: str, rng: random.Random, categories: Sequence[str]
) -> str:
    """An instruction whose frame says nothing, and whose relation is spelled out."""
    able = [name for name in categories if name in RELATIONS[relation]]
    subject = "it" if able == [selected] and rng.random() < 0.4 else refer(selected, rng)
    # Where the subject comes first, "it" is that.
    frames = [text for text in knowledge()["frames"] if text.find("{s") < text.find("{np}")]
    text: str = rng.choice(frames).format(
        np=rng.choice(RELATION_PHRASES[relation]),
        s=subject,
        s_=subject[0].upper() + subject[1:],
        who=rng.choice(knowledge()["who"]),
    )
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
    for relation, sentence in _relation_sentences():
        if _opening(sentence) in text:
            return relation
    for relation, phrases in RELATION_PHRASES.items():
        if any(phrase in text for phrase in phrases):
            return relation
    return None


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

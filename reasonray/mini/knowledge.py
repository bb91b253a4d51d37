"""What there is to say about the mini world: reasoning instructions with the reason behind each.

The facts are data (`knowledge.yaml`); here they become sentences. The language model of the mini
zoo is trained on them, and the mini world's direct instructions use `DIRECT_TEMPLATES`.
"""

import functools
import random
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from reasonray.core.record import ReasoningType
from reasonray.prompts.direct import TEMPLATES as DIRECT_TEMPLATES
from reasonray.prompts.replies import Candidate
from reasonray.prompts.words import naming
from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS

__all__ = [
    "DIRECT_TEMPLATES",
    "change",
    "facts",
    "knowledge",
    "reasoning_candidate",
    "refer",
    "related",
    "relation_rationales",
    "targets",
]


@functools.cache
def knowledge() -> dict[str, Any]:
    """The content of knowledge.yaml."""
    text = (Path(__file__).parent / "knowledge.yaml").read_text(encoding="utf-8")
    return cast(dict[str, Any], yaml.safe_load(text))


@functools.cache
def facts(category: str) -> tuple[tuple[ReasoningType, str], ...]:
    """All facts of a category: the kind of reasoning, and a noun phrase that fits only it."""
    listed = knowledge()["categories"][category]["facts"]
    return tuple((kind, fact) for kind, group in listed.items() for fact in group)


@functools.cache
def related(selected: str, target: str) -> tuple[str, ...]:
    """The relations that lead from one category to the other."""
    return tuple(name for name, pairs in RELATIONS.items() if pairs.get(selected) == target)


@functools.cache
def targets(selected: str) -> tuple[str, ...]:
    """The categories that some relation leads to."""
    return tuple(pairs[selected] for pairs in RELATIONS.values() if selected in pairs)


def change(categories: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """One of a picture's categories, and what is to replace it, half of the time a related one."""
    selected = rng.choice(categories)
    pool = [name for name in targets(selected) if name not in categories]
    if not pool or rng.random() < 0.5:
        pool = [name for name in CATEGORIES if name not in categories]
    return selected, rng.choice(pool)


def relation_rationales(selected: str, target: str) -> list[str]:
    """The sentences that say how one category leads to the other; none without a relation."""
    s, t = _bare(selected), _bare(target)
    return [
        sentence.format(s=s, t=t, S=_capital(s), T=_capital(t))
        for relation in related(selected, target)
        for sentence in knowledge()["relations"][relation]["rationale"]
    ]


def reasoning_candidate(
    selected: str,
    target: str,
    rng: random.Random,
    *,
    others: Collection[str] = (),
    telling: Collection[str] = (),
    relational: float = 0.5,
    qualifier: str = "",
) -> Candidate:
    """An instruction that leads from one category to another and names neither.

    Args:
        selected, target: what is replaced by what.
        rng: the source of all choices.
        others: further categories in the picture: "it" is only said when no other is meant.
        telling: further words that must not be used.
        relational: probability of a relation rather than a fact, where there is one.
        qualifier: which of several of the selected is meant, e.g. "left".
    """
    relations = related(selected, target)
    while True:
        if relations and rng.random() < relational:
            relation = rng.choice(relations)
            candidate = _by_relation(relation, selected, target, rng, others, qualifier)
        else:
            candidate = _by_fact(selected, target, rng, qualifier)
        if naming(candidate.instruction, [selected, target, *telling]) is None:
            return candidate


def refer(category: str, rng: random.Random, qualifier: str = "") -> str:
    """A category's object in other words than its name: "the striped insect"."""
    references: list[str] = knowledge()["categories"][category]["refs"]
    return " ".join(filter(None, ("the", qualifier, rng.choice(references))))


def _by_relation(
    relation: str,
    selected: str,
    target: str,
    rng: random.Random,
    others: Collection[str],
    qualifier: str,
) -> Candidate:
    known = knowledge()["relations"][relation]
    plain = not qualifier and not any(other in RELATIONS[relation] for other in others)
    sentence = rng.choice(known["sentences"])
    # "of it" is no English here, and "it" alone must not fit two objects.
    short = plain and "of {s}" not in sentence and rng.random() < 0.4
    reference = "it" if short else refer(selected, rng, qualifier)
    sentence = sentence.format(s=reference, poss="its" if short else f"{reference}'s")
    rationale = rng.choice(relation_rationales(selected, target))
    return Candidate(_capital(sentence), rationale, known["type"])


def _by_fact(selected: str, target: str, rng: random.Random, qualifier: str) -> Candidate:
    kind, fact = rng.choice(facts(target))
    reference = refer(selected, rng, qualifier)
    sentence = rng.choice(knowledge()["frames"]).format(
        np=fact, s=reference, s_=_capital(reference), who=rng.choice(knowledge()["who"])
    )
    t = _bare(target)
    rationale = rng.choice(knowledge()["fact_rationales"]).format(
        np=fact, t=t, T=_capital(t), selected=selected
    )
    return Candidate(_capital(sentence), rationale, kind)


def _bare(category: str) -> str:
    """With its article, a mass noun without: "a bee", "honey"."""
    known = CATEGORIES[category]
    return known.name if known.article == "some" else known.phrase


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]

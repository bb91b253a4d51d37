"""Nouns of captions that are no replaceable objects, and words that belong together.

They stand in `not_objects.txt`, whose sections these constants put together.
"""

from pathlib import Path

from reasonray.prompts.edits import PEOPLE
from reasonray.prompts.words import IRREGULAR_PLURALS, word_lists

_LISTS = word_lists(Path(__file__).with_suffix(".txt"))


def _words(*sections: str) -> frozenset[str]:
    return frozenset(" ".join(line for name in sections for line in _LISTS[name]).split())


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


DROPPED_MODIFIERS = PEOPLE | _words(
    "colours", "places", "quantities", "sides", "picture", "describing nouns"
)
"""Left out in front of a noun, unless both stand in `COMPOUNDS`."""

DROPPED_HEADS = (
    PEOPLE | _words("body", "places", "abstract", "picture", "sides", "quantities", "colours")
) - {"orange"}
"""No categories, unless at the end of a compound in `COMPOUNDS`; an orange is a fruit."""

PERSON_ENDINGS = ("man", "person", "people", "girl", "boy")
"""Of closed compounds for people ("mailman", "cowgirl")."""

NOT_PEOPLE = _words("not people")
"""What ends like one of them and is an object."""

COMPOUNDS = frozenset(_LISTS["compounds"])
"""Objects whose name is more, or less, than a run of nouns."""

COMPOUND_FORMS = dict.fromkeys(COMPOUNDS, False) | {
    _plural(compound): True for compound in COMPOUNDS
}
"""A compound as captions write it -> whether it is in the plural."""

LONGEST_COMPOUND = max(compound.count(" ") for compound in COMPOUNDS) + 1
"""In words."""

ING_NOUNS = _words("nouns in -ing")
"""Nouns in -ing; all others are taken for verbs ("a cat sitting")."""

IRREGULAR = dict(line.split() for line in _LISTS["plurals"]) | {
    plural: IRREGULAR_PLURALS[plural] for plural in ("geese", "oxen")
}
"""Plurals that spaCy gets wrong, or takes for other words."""

PLURAL_ONLY = _words("plural only")
"""Left in the plural."""

MEDIA = frozenset(_LISTS["media"])
"""What a picture is made in, no object of it."""

PARTITIVES = _words("partitives")
"""Nouns that name an object, unless "of" follows: "a blade of grass"."""

COLOURS = _words("colours")
"""Their names; some are those of fruits, metals and flowers, too."""

JOINING_PARTICIPLES = _words("joining participles")
"""What makes the noun before them an adjective: "a heart shaped pendant"."""

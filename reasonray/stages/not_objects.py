"""Nouns of captions that are no replaceable objects, and words that belong together.

They stand in `not_objects.txt`, whose sections these constants put together.
"""

from pathlib import Path

from reasonray.prompts.words import IRREGULAR_PLURALS, word_lists

_LISTS = word_lists(Path(__file__).with_suffix(".txt"))


def _words(*sections: str) -> frozenset[str]:
    return frozenset(" ".join(line for name in sections for line in _LISTS[name]).split())


DROPPED_MODIFIERS = _words("colours", "people", "places", "quantities", "sides", "picture")
"""Left out in front of a noun, unless both stand in `COMPOUNDS`."""

DROPPED_HEADS = _words(
    "people", "body", "places", "abstract", "picture", "sides", "quantities", "colours"
) - {"orange"}
"""No categories, unless at the end of a compound in `COMPOUNDS`; an orange is a fruit."""

PERSON_ENDINGS = ("man", "person", "people", "girl", "boy")
"""Of closed compounds for people ("mailman", "cowgirl")."""

NOT_PEOPLE = _words("not people")
"""What ends like one of them and is an object."""

COMPOUNDS = frozenset(_LISTS["compounds"])
"""Objects whose name is more, or less, than a run of nouns."""

ING_NOUNS = _words("nouns in -ing")
"""Nouns in -ing; all others are taken for verbs ("a cat sitting")."""

IRREGULAR = dict(line.split() for line in _LISTS["plurals"]) | {
    plural: IRREGULAR_PLURALS[plural] for plural in ("geese", "oxen")
}
"""Plurals that spaCy gets wrong, or takes for other words."""

PLURAL_ONLY = _words("plural only")
"""Left in the plural."""

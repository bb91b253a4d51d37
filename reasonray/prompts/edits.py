"""What may take a thing's place, and whether the caption of the edited picture says just that.

Small lists and rules (`edits.txt`), as in `words`: a false alarm costs one more request, a miss a
picture in which the detector sees both things, or a caption that is not true.
"""

from collections.abc import Sequence
from pathlib import Path

from reasonray.prompts.words import (
    FUNCTION_WORDS,
    equivalent,
    mentions,
    same,
    same_head,
    word_lists,
    words,
)

MAX_TARGET_WORDS = 5

_LISTS = word_lists(Path(__file__).with_suffix(".txt"))


def _section(name: str) -> frozenset[str]:
    return frozenset(" ".join(_LISTS[name]).split())


PEOPLE = _section("people")
"""Nouns for people, singular."""
_PEOPLE = PEOPLE | _section("further people")
_NO_PEOPLE = frozenset(_LISTS["not people"])
_ABSTRACT = _section("abstract")
_KINDS = {name: frozenset(kinds) for name, *kinds in map(str.split, _LISTS["kinds"])}
_MASS_NOUNS = _section("mass nouns")
_PLURALS = _section("plural nouns")
_SINGULARS_IN_S = _section("singular nouns in s")
_COUNTING = _section("counting words")

_REST = _section("words of the rest")
"""How a caption may speak of several things of which one has become another."""

_INTRODUCING = 3
"""Words before the selected thing at most that may go with it ("a large brown dog")."""


def unfit(target: str, selected: str, caption: str, categories: Sequence[str]) -> str | None:
    """Why the target cannot take the selected thing's place; None when it can.

    Args:
        target, selected: names without articles.
        caption: of the input image.
        categories: what was found in it.
    """
    tokens = words(target)
    if not 1 <= len(tokens) <= MAX_TARGET_WORDS:
        return f"The target category must have 1 to {MAX_TARGET_WORDS} words."
    if equivalent(target, selected):
        return f'The target category "{target}" is the same as "{selected}".'
    if any(equivalent(target, each) for each in categories) or mentions(caption, target):
        return f'The target category "{target}" is in the picture already.'
    head = _head(tokens)
    if target not in _NO_PEOPLE and any(same(head, person) for person in _PEOPLE):
        return f'The target category "{target}" is a person; it must be a thing or an animal.'
    if head in _ABSTRACT:
        return f'The target category "{target}" cannot be seen and drawn; name one thing.'
    if same_head(target, selected) or _is_kind(target, selected) or _is_kind(selected, target):
        return (
            f'The target category "{target}" is a kind of "{selected}", or the other way round; '
            "it must be another thing."
        )
    return None


def caption_fault(
    edited: str, caption: str, selected: str, target: str, *, is_one_of_several: bool = False
) -> str | None:
    """Why this is not the caption with the selected thing replaced by the target; None if it is.

    Args:
        edited: what is judged.
        caption: of the input image.
        selected, target: names without articles.
        is_one_of_several: others like the selected thing stay in the picture.
    """
    if not mentions(edited, target):
        return f'The edited caption must name the target category "{target}".'
    remains = is_one_of_several or several(caption, selected)
    before, after = words(caption), words(edited)
    if not remains and mentions(edited, selected) and not mentions(target, selected):
        return f'The edited caption must not name "{selected}" any more.'
    for word in _staying(before, selected):
        if not any(same(word, other) for other in after):
            return f'The edited caption must keep the word "{word}" of the caption.'
    known = [*before, *words(target)]
    for word in after:
        is_new = not any(same(word, other) for other in known)
        if remains and (word in _REST or word.isdigit()):
            continue
        if is_new and word not in FUNCTION_WORDS:
            return f'The edited caption must not add the word "{word}".'
    return None


def several(caption: str, name: str) -> bool:
    """Whether a caption speaks of several of a thing: "three dogs", "a dog and another dog"."""
    tokens, phrase = words(caption), words(name)
    num_named = sum(_spells(tokens[place:], phrase) for place in range(len(tokens)))
    return num_named > 1 or counted(caption, name)


def counted(caption: str, name: str) -> bool:
    """Whether a caption says of a thing that it is one of several: "three dogs", "other dog"."""
    tokens, phrase = words(caption), words(name)
    stops = FUNCTION_WORDS - _COUNTING - {"of", "other", "another"}
    return any(
        word in _COUNTING or word in ("other", "another") or (word.isdigit() and word != "1")
        for place in range(len(tokens))
        if _spells(tokens[place:], phrase)
        for word in _before(tokens, place, stops=stops)
    )


def is_plural(name: str) -> bool:
    """Whether a name is in the plural: "strawberries", "scissors", "children"."""
    word = (words(name) or [""])[-1]
    if word in _SINGULARS_IN_S or word.endswith(("ss", "us", "is")):
        return False
    return word in _PLURALS or (len(word) > 3 and word.endswith("s"))


def is_mass(name: str) -> bool:
    """Whether a name takes no article: "rice", "chocolate milk"."""
    return (words(name) or [""])[-1] in _MASS_NOUNS


def _head(tokens: Sequence[str]) -> str:
    """The word that says what it is: "statue" of "statue of a man", but "people" of "group of"."""
    place = tokens.index("of") - 1 if "of" in tokens[1:-1] else -1
    return tokens[-1] if tokens[place] in _COUNTING else tokens[place]


def _is_kind(name: str, thing: str) -> bool:
    """Whether a name's head is listed as a kind of the thing's head."""
    head, general = _head(words(name)), _head(words(thing))
    return any(
        same(general, each) and any(same(head, kind) for kind in kinds)
        for each, kinds in _KINDS.items()
    )


def _staying(tokens: Sequence[str], selected: str) -> list[str]:
    """The content words of a caption but the selected thing's and those that describe it."""
    phrase = words(selected)
    going: set[int] = set()
    for place in range(len(tokens)):
        if _spells(tokens[place:], phrase):
            described = len(_before(tokens, place, stops=FUNCTION_WORDS | _verbs(tokens)))
            going |= set(range(place - described, place + len(phrase)))
        elif any(same(tokens[place], word) for word in phrase[-1:]):
            going.add(place)  # "a fire truck … the truck"
    return [
        word
        for place, word in enumerate(tokens)
        if place not in going and word not in FUNCTION_WORDS and word not in _COUNTING
    ]


def _verbs(tokens: Sequence[str]) -> frozenset[str]:
    """What may be a verb before its object: "riding" in "a man riding horses"."""
    return frozenset(word for word in tokens if word.endswith("ing"))


def _spells(tokens: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether the tokens begin with the phrase, in any inflection."""
    return len(tokens) >= len(phrase) > 0 and all(map(same, tokens, phrase))


def _before(tokens: Sequence[str], place: int, *, stops: frozenset[str]) -> list[str]:
    """The words that describe what stands at a place: those before it, back to a stop."""
    described: list[str] = []
    for word in reversed(tokens[max(0, place - _INTRODUCING) : place]):
        if word in stops:
            break
        described.append(word)
    return described

"""Direct instructions: the plain sentence for an edit that a reasoning one only suggests."""

import re

from reasonray.prompts.edits import is_mass, is_plural
from reasonray.prompts.words import same, words

TEMPLATES = (
    "turn the {selected} into {target}",
    "replace the {selected} with {target}",
    "make the {selected} {target}",
    "swap the {selected} for {target}",
    "change the {selected} to {target}",
    "let {target} take the place of the {selected}",
    "put {target} where the {selected} is",
)
"""{selected} without an article, {target} with its own."""

_ARTICLES = "a|an|some|two|three|four|five|several|many"

_INTRODUCED = re.compile(rf"(?:{_ARTICLES})\s", re.IGNORECASE)


def _wording(template: str) -> re.Pattern[str]:
    """Matches what a template says of two names, each of four words at most but for an article."""
    # What follows a stop or an "and" may be a second edit: "… of the cow and move it".
    word = r"(?!(?:and|but|or|then)\b)[^\s,;:.]+"
    name = selected = rf"{word}(?:\s{word}){{0,3}}"
    article = rf"(?:(?:{_ARTICLES})\s)?"
    if "{selected} {target}" in template:
        # Nothing else parts the names, and "make the man wear a hat" replaces nobody.
        selected, article = word, article.removesuffix("?")
    pattern = template.format(
        selected=f"(?P<selected>{selected})", target=f"(?P<target>{article}{name})"
    )
    return re.compile(pattern, re.IGNORECASE)


_WORDINGS = tuple(map(_wording, TEMPLATES))
"""Of each template."""

_AN = re.compile(r"[aio]|e(?!u)|u(?!ni|ku|s[ae]|t[ei])|hour|heir|honest", re.IGNORECASE)
"""Beginnings of words that sound like a vowel."""


def direct_instruction(
    selected: str,
    target: str,
    edited_caption: str,
    *,
    seed: int,
    input_caption: str = "",
    qualifier: str | None = None,
) -> str:
    """One of the templates, chosen by the seed; the target's article is the edited caption's.

    Args:
        selected: category that is replaced, no article.
        target: category that comes in, no article.
        edited_caption: names the target.
        seed: non-negative.
        input_caption: names the selected one; in the plural, so does the instruction.
        qualifier: which of several is meant, e.g. "left".
    """
    template = TEMPLATES[seed % len(TEMPLATES)]
    name = f"{qualifier} {selected}" if qualifier else _as_spelled(selected, input_caption)
    return direct_sentence(template, name, with_article(target, edited_caption))


def direct_sentence(template: str, selected: str, target: str, *, capital: bool = True) -> str:
    """One of `TEMPLATES` filled in: `selected` without an article, `target` with its own."""
    sentence = template.format(selected=selected, target=target)
    return sentence[0].upper() + sentence[1:] if capital else sentence


def in_one_wording(instruction: str) -> str:
    """A direct instruction as the first of `TEMPLATES` says it: "turn the cow into a car".

    One that is none of them stays as it is, and so does one that may mean something else: whose
    target has no article and is no plural or mass noun ("change the colour to red"), whose names
    are long, or which makes a thing of several words something ("make the man wear a hat").

    Args:
        instruction: with a capital and a full stop, or without.
    """
    sentence = instruction.strip().removesuffix(".")
    for wording in _WORDINGS:
        parts = wording.fullmatch(sentence)
        if parts is None:
            continue
        target = parts["target"]
        if _INTRODUCED.match(target) or is_plural(target) or is_mass(target):
            return direct_sentence(TEMPLATES[0], parts["selected"], target)
    return instruction


def with_article(name: str, caption: str) -> str:
    """The name as the caption introduces it ("some milk", "two dogs", "strawberries").

    Where the caption has neither article nor plural, with a or an, or as it is when it takes none.
    """
    spelled = r"\W+".join(re.escape(word) for word in words(name))
    introduction = re.search(rf"\b({_ARTICLES})\s+({spelled})\b", caption, re.IGNORECASE)
    if introduction:
        return f"{introduction[1].lower()} {name}"
    name = _as_spelled(name, caption)
    if is_plural(name) or is_mass(name):
        return name
    return f"{'an' if _AN.match(name) else 'a'} {name}"


def _as_spelled(name: str, caption: str) -> str:
    """The name in the plural where the caption has it so, and does not count: "grapes"."""
    tokens, phrase = words(caption), words(name)
    for place in range(len(tokens) - len(phrase) + 1 if phrase else 0):
        stretch = tokens[place : place + len(phrase)]
        is_counted = place > 0 and tokens[place - 1] in _ARTICLES.split("|")
        if stretch != phrase and all(map(same, stretch, phrase)) and not is_counted:
            spelled = " ".join(stretch)
            return spelled if is_plural(spelled) else name
    return name

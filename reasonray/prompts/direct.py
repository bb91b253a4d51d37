"""Direct instructions: the plain sentence for an edit that a reasoning one only suggests."""

import re

from reasonray.prompts.words import words

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


def direct_instruction(selected: str, target: str, edited_caption: str, *, seed: int) -> str:
    """One of the templates, chosen by the seed; the target's article is the edited caption's.

    Args:
        selected: category that is replaced, no article.
        target: category that comes in, no article.
        edited_caption: names the target.
        seed: non-negative.
    """
    template = TEMPLATES[seed % len(TEMPLATES)]
    return direct_sentence(template, selected, with_article(target, edited_caption))


def direct_sentence(template: str, selected: str, target: str, *, capital: bool = True) -> str:
    """One of `TEMPLATES` filled in: `selected` without an article, `target` with its own."""
    sentence = template.format(selected=selected, target=target)
    return sentence[0].upper() + sentence[1:] if capital else sentence


def with_article(name: str, caption: str) -> str:
    """The name as the caption introduces it ("some milk", "two dogs"), else with a or an."""
    spelled = r"\W+".join(re.escape(word) for word in words(name))
    introduction = re.search(rf"\b({_ARTICLES})\s+({spelled})\b", caption, re.IGNORECASE)
    if introduction:
        return f"{introduction[1].lower()} {name}"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"

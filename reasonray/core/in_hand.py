"""The decoded pictures of the batch in hand, so that the stages of one pool decode each file once.

Without a batch, as where a stage is called by itself, nothing is remembered.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import PIL.Image

MAX_BYTES = 512_000_000
"""Of decoded pictures that are remembered, 160 of 1024x768; the others are decoded again."""

_BYTES_A_PIXEL = 4
"""Of Pillow's RGB in memory."""


class _Pictures:
    def __init__(self) -> None:
        # By the identity of the encoded bytes, which are held too: no other object gets it.
        self.known: dict[int, tuple[bytes, PIL.Image.Image]] = {}
        self.num_bytes = 0


_batch: ContextVar[_Pictures | None] = ContextVar("batch", default=None)


@contextlib.contextmanager
def batch() -> Iterator[None]:
    """Remember pictures until the block ends; in this thread alone."""
    token = _batch.set(_Pictures())
    try:
        yield
    finally:
        _batch.reset(token)


def picture(encoded: bytes) -> PIL.Image.Image | None:
    """What these bytes, the very object, show; None: not remembered."""
    pictures = _batch.get()
    known = pictures.known.get(id(encoded)) if pictures is not None else None
    return known[1] if known is not None else None


def remember(encoded: bytes, shown: PIL.Image.Image) -> None:
    """Keep a picture for the batch's later stages.

    Args:
        encoded: the object that rows hold.
        shown: exactly what decoding them gives; nobody changes it from now on.
    """
    pictures = _batch.get()
    if pictures is None or id(encoded) in pictures.known:
        return
    size = shown.width * shown.height * _BYTES_A_PIXEL
    if pictures.num_bytes + size <= MAX_BYTES:
        pictures.num_bytes += size
        pictures.known[id(encoded)] = (encoded, shown)

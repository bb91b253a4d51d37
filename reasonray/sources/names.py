"""File names as others wrote them: with "\\", in decomposed letters, in another case, as a URL."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from reasonray.core.images import extensions


class Names:
    """Files that exist, and which of them a name in somebody's list means."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._loosely: dict[str, str | None] = {}
        for name in self._names:
            key = _loose(name)
            # Of two that differ in nothing else neither is meant.
            self._loosely[key] = None if key in self._loosely else name

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def find(self, name: str) -> str | None:
        """The file of just this name, else the one whose name differs in slashes, letters' form
        or case alone; None: there is none, or several."""
        return name if name in self._names else self._loosely.get(_loose(name))


def slashed(name: str) -> str:
    """With "/" for "\\", without a leading "./"."""
    return name.replace("\\", "/").removeprefix("./")


def is_url(name: str) -> bool:
    """Whether a name that should be a file's is an address, such as http://host/a.jpg."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", name) is not None


def extension(name: str) -> str:
    """Lower case, with the dot, without what downloads add: .jpg of `a.JPG?w=8` and `a.jpg_large`.

    Empty where there is none.
    """
    base = name.rpartition("/")[2].lower().partition("?")[0]
    stem, dot, end = base.rpartition(".")
    match = re.match(r"[a-z0-9]+", end)
    return f".{match[0]}" if stem and dot and match else ""


def is_picture(name: str) -> bool:
    """Whether the extension is one of a picture's."""
    return extension(name) in extensions()


def _loose(name: str) -> str:
    return unicodedata.normalize("NFC", slashed(name)).casefold()

"""One array out of a JSON file too large to load: V3Det's annotations are hundreds of MB.

Elements of the array are parsed one by one; the rest of the file is skipped by its brackets,
never parsed, so that a pass costs seconds and a few MB.
"""

import json
import re
from collections.abc import Iterator
from typing import IO, Any, NoReturn

from reasonray.core.errors import UserError

_CHUNK = 1 << 20
# An element that does not end within this many characters is taken for malformed.
_LONGEST = 1 << 24

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = r'"(?:[^"\\]|\\.)*+"'
# Whole values up to two brackets deep (an annotation with its box), so that skipping stays in C.
_FLAT = rf'[\[{{](?:[^"\[\]{{}}]++|{_STRING})*+[\]}}]'
_NESTED = rf'[\[{{](?:[^"\[\]{{}}]++|{_STRING}|{_FLAT})*+[\]}}]'
_INSIDE = re.compile(rf'(?:[^"\[\]{{}}]++|{_STRING}|{_NESTED})*+', re.DOTALL)
_OUTSIDE = re.compile(rf'(?:[^"\[\]{{}},]++|{_STRING})*+', re.DOTALL)
_DECODER = json.JSONDecoder()


def stream_array(file: IO[str], key: str, name: str) -> Iterator[Any]:
    """Yield the elements of the array under `key` of the object that the file holds.

    Args:
        file: text, at its beginning.
        key: of the top-level object; nothing is yielded where it is absent or null.
        name: of the file, for messages.

    Raises:
        UserError: not a JSON object, or malformed up to the array's end; names file and place.
    """
    text = _Text(file, name)
    text.expect("{")
    if text.accept("}"):
        return
    while True:
        member = text.value()
        if not isinstance(member, str):
            text.fail("expected a key in quotes")
        text.expect(":")
        if member == key:
            yield from _elements(text, key)
            return
        text.skip()
        if not text.accept(","):
            text.expect("}")
            return


def _elements(text: "_Text", key: str) -> Iterator[Any]:
    if text.accept("n"):  # null, the one value that begins so
        return
    if not text.accept("["):
        text.fail(f"expected a list under {key}")
    if text.accept("]"):
        return
    while True:
        yield text.value()
        if not text.accept(","):
            text.expect("]")
            return


class _Text:
    """A window that moves over the file."""

    def __init__(self, file: IO[str], name: str) -> None:
        self._file = file
        self._name = name
        self._window = ""
        self._at = 0
        self._before = 0  # characters that have left the window

    def fail(self, problem: str) -> NoReturn:
        raise UserError(f"{self._name}: character {self._before + self._at}: {problem}")

    def accept(self, character: str) -> bool:
        """Step over the character if it is next."""
        self._skip_space()
        if self._window.startswith(character, self._at):
            self._at += 1
            return True
        return False

    def expect(self, character: str) -> None:
        if not self.accept(character):
            next_one = repr(self._window[self._at]) if self._at < len(self._window) else "the end"
            self.fail(f"not JSON (expected {character!r}, found {next_one})")

    def value(self) -> Any:
        """Parse the next value."""
        self._skip_space()
        while True:
            problem = "ends too early"
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                problem = error.msg
            else:
                # A number near the window's edge may go on behind it: "1" of "1e-5".
                is_number = isinstance(value, int | float)
                if not is_number or end + 3 <= len(self._window) or not self._more():
                    self._at = end
                    return value
                continue
            if len(self._window) - self._at > _LONGEST or not self._more():
                self.fail(f"not JSON ({problem})")

    def skip(self) -> None:
        """Step over the next value without parsing it."""
        self._skip_space()
        depth = 0
        while True:
            match = (_INSIDE if depth else _OUTSIDE).match(self._window, self._at)
            assert match is not None
            self._at = match.end()
            character = self._window[self._at : self._at + 1]
            if character in ("", '"'):  # nothing more here, or a string that goes on
                if len(self._window) - self._at > _LONGEST or not self._more():
                    self.fail("not JSON (a string or the file ends too early)")
                continue
            if depth == 0 and character in ",}]":
                return
            depth += 1 if character in "[{" else -1
            self._at += 1

    def _skip_space(self) -> None:
        while True:
            match = _SPACE.match(self._window, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._window) or not self._more():
                return

    def _more(self) -> bool:
        """Lengthen the window, letting go of what is behind; False at the end of the file."""
        try:
            chunk = self._file.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise UserError(f"{self._name}: not UTF-8 text ({error.reason})") from error
        self._window = self._window[self._at :] + chunk
        self._before += self._at
        self._at = 0
        return bool(chunk)

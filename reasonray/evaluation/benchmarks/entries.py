"""The entries of a benchmark's lists, asked for by type: a message names file and item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasonray.core.errors import UserError
from reasonray.evaluation.items import Item, Picture


@dataclass(frozen=True)
class Entry:
    """One item of a benchmark's own list, whose values are asked for by type.

    Attributes:
        values: as the file has them.
        where: file and item, for messages.
        cells: what a picture's column of a Parquet file is named by; "" for other files.
    """

    values: Mapping[str, Any]
    where: str
    cells: str = ""

    def text(self, key: str, default: str | None = None) -> str:
        """A text; a number is one, too.

        Args:
            key: of the entry.
            default: where it is missing, null or empty; None: then it is an error.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self.values.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is None or value == "":
            if default is None:
                raise UserError(f"{self.where}: no {key}; expected a text")
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A text or a list of texts, at least one."""
        value = self.values.get(key)
        if not isinstance(value, list):
            return (self.text(key),)
        if not value or not all(isinstance(each, str) and each for each in value):
            raise self.wrong(key, "a text or a list of texts")
        return tuple(value)

    def one_of(self, key: str, known: Sequence[str]) -> str:
        """A text that is one of a benchmark's categories.

        Raises:
            UserError: it is another; names them.
        """
        value = self.text(key)
        if value not in known:
            raise UserError(f"{self.where}: {key} is {value!r}; expected one of {', '.join(known)}")
        return value

    def is_set(self, key: str) -> bool:
        """Whether there is a value, whatever it is: how pandas' `isna` sees a row."""
        value = self.values.get(key)
        return value is not None and value == value  # NaN is none

    def wrong(self, key: str, expected: str) -> UserError:
        """The error for a value of the wrong type."""
        value = self.values.get(key)
        return UserError(
            f"{self.where}: {key} holds {type(value).__name__} {str(value)[:60]!r}; "
            f"expected {expected}"
        )

    def cell(self, column: str) -> Picture:
        """The picture in a column of the row."""
        return Picture(f"{self.cells}/{column}")


def entries(content: Any, uri: str) -> list[Entry]:
    """Those of a JSON list, by their numbers, or of a JSON object, by their keys.

    Raises:
        UserError: it is neither, or holds something that is no object.
    """
    if isinstance(content, list):
        pairs = [(f"item {number}", value) for number, value in enumerate(content)]
    elif isinstance(content, dict):
        pairs = [(f"item {key}", value) for key, value in content.items()]
    else:
        raise UserError(f"{uri}: expected a list or an object of items")
    for name, value in pairs:
        if not isinstance(value, dict):
            raise UserError(f"{uri} {name}: expected an object, not {type(value).__name__}")
    return [Entry(value, f"{uri} {name}") for name, value in pairs]


def unique(items: Sequence[Item], address: str) -> Sequence[Item]:
    """The items, if there are some and no two have one id.

    Raises:
        UserError: there are none, or two are alike.
    """
    if not items:
        raise UserError(f"{address}: no items")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UserError(f"{address}: two items are {item.id}")
        seen.add(item.id)
    return items

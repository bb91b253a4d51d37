"""Files with scores or preferences of edited pictures, in the forms that people have them.

CSV, JSON (a list of objects), JSON lines or Parquet. A row has `id` and, where several editors were
judged, `editor`; every other column with numbers is an axis. Or it has `id`, `chosen` and
`rejected`: two editors, of whose pictures the first was preferred; a study's pairs, which have the
pictures under these names, have the editors as `chosen_editor` and `rejected_editor`.
"""

import csv
import io
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from reasonray.core.errors import UserError
from reasonray.core.reading import read_bytes

_PREFERENCES = (("chosen_editor", "rejected_editor"), ("chosen", "rejected"))
_NAMES = {"id", "editor", *_PREFERENCES[0], *_PREFERENCES[1]}
_NOT_AXES = {*_NAMES, "rater", "worker", "seed"}


class Key(NamedTuple):
    """A picture: of which item, by which editor ("" where there is one)."""

    id: str
    editor: str = ""

    def __str__(self) -> str:
        return f"id {self.id!r}" + (f" of editor {self.editor!r}" if self.editor else "")


@dataclass(frozen=True)
class Scores:
    """A file's scores.

    Attributes:
        name: of the file.
        axes: axis -> the pictures' scores. Of several rows of one picture, as of several people,
            the mean; a picture without a score on the axis is absent.
        num_rows: of the file.
        num_unscored: rows of it without a single score.
    """

    name: str
    axes: Mapping[str, Mapping[Key, float]]
    num_rows: int
    num_unscored: int


@dataclass(frozen=True)
class Preference:
    """That one editor's picture of an item was preferred to another's."""

    id: str
    chosen: str
    rejected: str

    @property
    def chosen_key(self) -> Key:
        """The picture that was preferred."""
        return Key(self.id, self.chosen)

    @property
    def rejected_key(self) -> Key:
        """The other."""
        return Key(self.id, self.rejected)


@dataclass(frozen=True)
class Preferences:
    """A file's preferences; `name` is the file's."""

    name: str
    pairs: list[Preference]


def read_scores(uri: str) -> Scores | Preferences:
    """A file of scores, or of preferences where it has the columns for it.

    Args:
        uri: a path or a URI; its end says what it is: .csv, .json, .jsonl or .parquet.

    Raises:
        UserError: it is not there, is of another form, has no column id, or holds nothing.
    """
    rows = _rows(uri)
    if not rows:
        raise UserError(f"{uri}: holds no rows")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if "id" not in columns:
        raise UserError(
            f"{uri}: has no column id (it has {', '.join(columns)}); a row is one picture, or one "
            "person's judgement of it"
        )
    for editors in _PREFERENCES:
        if set(editors) <= set(columns):
            pairs = [_preference(row, editors, uri, i) for i, row in enumerate(rows, 1)]
            return Preferences(uri, pairs)
    axes: dict[str, dict[Key, list[float]]] = {}
    num_unscored = 0
    for number, row in enumerate(rows, 1):
        key = Key(_name(row, "id", uri, number), _text(row.get("editor")))
        values = {name: _number(row[name]) for name in row if name not in _NOT_AXES}
        num_unscored += all(value is None for value in values.values())
        for name, value in values.items():
            if value is not None:
                axes.setdefault(name, {}).setdefault(key, []).append(value)
    means = {
        name: {key: statistics.fmean(values) for key, values in axes[name].items()}
        for name in columns
        if name in axes
    }
    return Scores(uri, means, len(rows), num_unscored)


def _rows(uri: str) -> list[dict[str, Any]]:
    kind = PurePosixPath(uri).suffix.lower()
    readers = {".csv": _csv, ".json": _json, ".jsonl": _json_lines, ".parquet": _parquet}
    if kind not in readers:
        raise UserError(f"{uri}: expected a file that ends in {', '.join(readers)}")
    try:
        data = read_bytes(uri)
        rows = list(readers[kind](data))
    except FileNotFoundError as error:
        raise UserError(f"{uri}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{uri}: cannot be read ({error.strerror or error})") from error
    except (ValueError, csv.Error, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{uri}: is no {kind[1:]} that can be read: {reason}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{uri}: expected objects with named values, one for each picture")
    return rows


def _csv(data: bytes) -> Iterable[dict[str, Any]]:
    # Spreadsheets put a mark before UTF-8. Cells beyond the header's would stand under None.
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), restkey="")
    for row in reader:
        if "" in row and isinstance(row[""], list):
            raise ValueError(f"line {reader.line_num} has more cells than the header")
        yield {(name or "").strip(): value for name, value in row.items()}


def _json(data: bytes) -> Iterable[dict[str, Any]]:
    content = json.loads(data)
    if not isinstance(content, list):
        raise ValueError("expected a list of objects")  # noqa: TRY004  of the file, as JSON's own
    return content


def _json_lines(data: bytes) -> Iterable[dict[str, Any]]:
    return [json.loads(line) for line in data.decode("utf-8").splitlines() if line.strip()]


def _parquet(data: bytes) -> Iterable[dict[str, Any]]:
    file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
    # Pictures and the like are never scores.
    names = [
        field.name
        for field in file.schema_arrow
        if pa.types.is_integer(field.type)
        or pa.types.is_floating(field.type)
        or (field.name in _NAMES and not pa.types.is_nested(field.type))
    ]
    rows: list[dict[str, Any]] = file.read(columns=names).to_pylist()
    return rows


def _preference(
    row: Mapping[str, Any], editors: tuple[str, str], uri: str, number: int
) -> Preference:
    return Preference(*(_name(row, key, uri, number) for key in ("id", *editors)))


def _name(row: Mapping[str, Any], key: str, uri: str, number: int) -> str:
    text = _text(row.get(key))
    if not text:
        raise UserError(f"{uri}: row {number}: has no {key}")
    return text


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _number(value: Any) -> float | None:
    """A score; None for an empty cell, a text or NaN."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

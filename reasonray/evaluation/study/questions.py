"""What editors were asked: items of a benchmark's folder, or of JSONL or Parquet files.

In a file an item has `id`, `instruction`, `kind` (direct, reasoning, …), `input_image` and, if it
likes, `group`. In JSONL `input_image` is a path beside the file, in Parquet a path or the picture
itself.
"""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonray.core.errors import UserError
from reasonray.core.place import Place, files, parquet, place, reached
from reasonray.core.reading import printable
from reasonray.core.uris import is_local
from reasonray.evaluation.benchmarks.ours import ABOUT, Ours
from reasonray.evaluation.items import Item, Picture
from reasonray.evaluation.pictures import check_stems
from reasonray.sources.files import parse_json

COLUMNS = ("id", "instruction", "kind", "input_image")
"""What an item must have."""

_KINDS = ("direct", "reasoning")


@dataclass(frozen=True)
class Question:
    """An instruction that the editors have carried out.

    Attributes:
        id: of the item; the editors' pictures bear it.
        kind: of instruction; each is counted by itself.
        group: the item's category, "" if it has none.
        instruction: what was to be done.
        before: the picture that it was to be done to.
    """

    id: str
    kind: str
    group: str
    instruction: str
    before: Picture


def read_questions(path: str) -> list[Question]:
    """All items, in the order of the files.

    Args:
        path: a benchmark's folder, of whose direct instructions a pair's first counts; a JSONL or
            Parquet file; or a folder of such, of which those count that have all `COLUMNS`, and
            JSONL only where no Parquet file has them.

    Raises:
        UserError: nothing is there, something is malformed, or two items have one id.
    """
    where = place(path, "--items")
    try:
        with reached(where, "--items"):
            questions = _read(where)
    except (OSError, pa.ArrowInvalid) as error:
        problem = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"--items {where}: cannot be read ({problem})") from error
    check_stems(question.id for question in questions)
    return questions


def in_order(kinds: set[str]) -> list[str]:
    """Kinds of instruction as tables have them: direct, reasoning, then others by name."""
    return sorted(kinds, key=lambda kind: (kind not in _KINDS, kind))


def _read(where: Place) -> list[Question]:
    if where.is_file():
        kind = where.name.lower().rpartition(".")[2]
        if kind not in ("jsonl", "parquet"):
            raise UserError(f"--items {where}: expected a folder, a .jsonl or a .parquet file")
        questions = list((_of_lines if kind == "jsonl" else _of_parquet)(where))
        if not questions:
            raise UserError(f"--items {where}: no items are in it")
        return questions
    if not where.is_dir():
        raise UserError(f"--items {where}: not there; expected a folder, a .jsonl or .parquet file")
    if (where / ABOUT).exists():
        return [_of_benchmark(item) for item in Ours(str(where)).items() if _is_first(item)]
    tables = [file for file in _visible(where, ".parquet") if _has_columns(file)]
    questions = [question for file in tables for question in _of_parquet(file)]
    if not tables:
        lines = [file for file in _visible(where, ".jsonl") if _begins_with_item(file)]
        questions = [question for file in lines for question in _of_lines(file)]
    if not questions:
        raise UserError(
            f"--items {where}: no Parquet or JSONL file below it has the columns "
            f"{', '.join(COLUMNS)}"
        )
    return questions


def _is_first(item: Item) -> bool:
    """Whether it is the first instruction of its kind about its pictures, not direct-2 or so."""
    return item.id.rpartition("#")[2] == item.group


def _of_benchmark(item: Item) -> Question:
    return Question(item.id, item.group, "", item.instruction, item.pictures[0])


def _visible(folder: Place, suffix: str) -> list[Place]:
    """Files below a folder, without what a run keeps for itself in `.run`."""
    start = len(str(folder))
    return [file for file in files(folder, suffix) if "/." not in str(file)[start:]]


def _of_lines(file: Place) -> Iterator[Question]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        values, where = parse_json(line, str(file), first_line=number), f"{file}: line {number}"
        texts = _texts(values, where)
        uri = values.get("input_image")
        if not isinstance(uri, str) or not uri.strip():
            raise UserError(f"{where}: input_image: expected a path beside the file")
        if is_local(uri):
            uri = str(file.parent / Path(uri).expanduser().as_posix())
        yield Question(**texts, before=Picture(uri))


def _lines(file: Place) -> list[bytes]:
    # Not by splitlines(), which also ends a line at characters that stand in JSON's strings.
    return file.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")


def _begins_with_item(file: Place) -> bool:
    try:
        values = json.loads(next((line for line in _lines(file) if line.strip()), b""))
    except ValueError:
        return False  # of another kind
    return isinstance(values, dict) and set(COLUMNS) <= set(values)


def _of_parquet(file: Place) -> Iterator[Question]:
    with parquet(file) as opened:
        names = opened.schema_arrow.names
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise UserError(
                f"{file}: no column {', '.join(missing)} (it has {', '.join(names)}); items have "
                f"{', '.join(COLUMNS)}"
            )
        columns, number = [name for name in (*COLUMNS[:3], "group") if name in names], 0
        for group in range(opened.num_row_groups):
            rows = opened.read_row_group(group, columns=columns).to_pylist()
            for row, values in enumerate(rows):
                before = Picture(f"{file}#{group}/{row}/input_image")
                yield Question(**_texts(values, f"{file}: row {number}"), before=before)
                number += 1


def _has_columns(file: Place) -> bool:
    with parquet(file) as opened:
        return set(COLUMNS) <= set(opened.schema_arrow.names)


def _texts(values: Any, where: str) -> dict[str, str]:
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected an object with {', '.join(COLUMNS)}")
    texts = {}
    for name in COLUMNS[:3]:
        value = values.get(name)
        if isinstance(value, int) and name == "id":
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: {name}: expected text, not {value!r}"[:300])
        texts[name] = printable(value)
    group = values.get("group")
    return {**texts, "group": "" if group is None else printable(str(group))}

"""A study's picks as preference pairs: under an instruction, this picture rather than that one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonray.core.errors import UserError
from reasonray.core.record import IMAGE
from reasonray.core.sections import OutputConfig
from reasonray.core.writing import replaced
from reasonray.dataset.shards import Shard, with_image_features
from reasonray.evaluation.study.store import Store

SCHEMA = with_image_features(
    pa.schema(
        [
            ("id", pa.string()),
            ("kind", pa.string()),
            ("group", pa.string()),
            ("instruction", pa.string()),
            ("input", IMAGE),
            ("chosen", IMAGE),
            ("rejected", IMAGE),
            ("chosen_editor", pa.string()),
            ("rejected_editor", pa.string()),
            ("worker", pa.int32()),
        ]
    )
)
"""A row for each picture that an answer has not chosen. The pictures are as they were shown: of the
input's size, 1024 pixels at most. In JSONL they are paths from the file's folder."""

_PICTURES = ("input", "chosen", "rejected")

# Written together: some 100 MB of the largest pictures.
_ROWS = 32


def write_preferences(folder: Path, path: Path) -> tuple[int, int]:
    """Write the answers that count as pairs.

    Args:
        folder: of the study, which may be going on.
        path: a new file, or one to be replaced, that ends in .parquet or .jsonl.

    Returns:
        Pairs that were written, and pairs of the very same picture, which say nothing.

    Raises:
        UserError: another ending, no study in the folder, or the file cannot be written.
    """
    kind = path.name.lower().rpartition(".")[2]
    if kind not in ("parquet", "jsonl"):
        raise UserError(f"--preferences {path}: expected a file that ends in .parquet or .jsonl")
    store = Store(folder)
    pairs = list(_pairs(store))
    distinct = [pair for pair in pairs if not _alike(store.pictures, pair)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary:
            if kind == "parquet":
                _write_parquet(temporary, store.pictures, distinct)
            else:
                _write_lines(temporary, store.pictures, distinct, path.parent)
    except OSError as error:
        raise UserError(f"--preferences {path}: cannot be written ({error.strerror})") from error
    return len(distinct), len(pairs) - len(distinct)


def _pairs(store: Store) -> Iterator[dict[str, Any]]:
    """Rows of `SCHEMA`, but for file names in place of pictures."""
    for pick in store.picks():
        question = pick.question
        for editor, picture in question.after.items():
            if editor != pick.editor:
                yield {
                    "id": question.item,
                    "kind": question.kind,
                    "group": question.category,
                    "instruction": question.instruction,
                    "input": question.before,
                    "chosen": question.after[pick.editor],
                    "rejected": picture,
                    "chosen_editor": pick.editor,
                    "rejected_editor": editor,
                    "worker": pick.worker,
                }


def _alike(pictures: Path, pair: dict[str, Any]) -> bool:
    chosen, rejected = (pictures / str(pair[name]) for name in ("chosen", "rejected"))
    is_as_long = chosen.stat().st_size == rejected.stat().st_size
    return is_as_long and chosen.read_bytes() == rejected.read_bytes()


def _write_parquet(path: Path, pictures: Path, pairs: list[dict[str, Any]]) -> None:
    shard = Shard(path, SCHEMA, OutputConfig())
    for start in range(0, len(pairs), _ROWS):
        rows = [
            {**pair, **{name: _image(pictures / pair[name]) for name in _PICTURES}}
            for pair in pairs[start : start + _ROWS]
        ]
        shard.write(pa.Table.from_pylist(rows, schema=SCHEMA))
    shard.close()


def _image(path: Path) -> dict[str, Any]:
    return {"bytes": path.read_bytes(), "path": path.name}


def _write_lines(path: Path, pictures: Path, pairs: list[dict[str, Any]], base: Path) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for pair in pairs:
            places = {name: os.path.relpath(pictures / pair[name], base) for name in _PICTURES}
            lines.write(json.dumps({**pair, **places}, ensure_ascii=False) + "\n")

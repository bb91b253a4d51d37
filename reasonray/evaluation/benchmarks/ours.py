"""Our own benchmark's folder: pairs with their truth, each with instructions of several kinds.

    DIR/benchmark.json       what it is made of, and how many
    DIR/pairs/*.parquet      `SCHEMA`: a row for each pair of pictures

An instruction of a pair is an item, `PAIR#KIND` its id; the kind (direct, reasoning, …) its group.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from reasonray.core.errors import UserError
from reasonray.core.place import (
    Place,
    files,
    parquet,
    place,
    reached,
    read_json,
    remove,
    undamaged,
)
from reasonray.core.record import IMAGE
from reasonray.core.writing import write_file, write_table
from reasonray.dataset.shards import parquet_options, with_image_features
from reasonray.evaluation.benchmarks.table import means, single
from reasonray.evaluation.items import (
    FACETS,
    TRUTH_METRICS,
    Axes,
    Benchmark,
    Figure,
    Item,
    Picture,
    Scored,
    Scores,
)

ABOUT, PAIRS = "benchmark.json", "pairs"

SCHEMA = with_image_features(
    pa.schema(
        [
            ("id", pa.string()),
            ("input_image", IMAGE),
            ("truth", IMAGE),
            ("input_caption", pa.string()),
            ("truth_caption", pa.string()),
            ("selected_category", pa.string()),
            ("target_category", pa.string()),
            ("part", pa.string()),
            ("reasoning_type", pa.string()),
            ("box", pa.list_(pa.float32())),
            (
                "instructions",
                pa.list_(pa.struct([("kind", pa.string()), ("text", pa.string())])),
            ),
            ("license", pa.string()),
        ]
    )
)
"""A pair: its pictures with their captions, what becomes what in which box (xyxy pixels), of which
part and kind of reasoning its sample is, and what an editor is told: each kind once."""

_REMEDY = "copy or make the benchmark anew"

_ROWS_A_FILE = 100
_ROWS_A_GROUP = 50
"""So that what is in memory at once is some 100 MB."""


def write(folder: Place, pairs: Iterable[dict[str, Any]], about: dict[str, Any]) -> int:
    """Write a benchmark; gives the number of pairs.

    Args:
        folder: without one; what a process that was killed has left of one is written anew.
        pairs: as `SCHEMA`.
        about: of what it is made.
    """
    remove(folder / PAIRS)
    count = 0
    for number, rows in enumerate(_batches(pairs, _ROWS_A_FILE)):
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        options = parquet_options(SCHEMA)
        path = folder / PAIRS / f"{number:05}.parquet"
        write_table(path, table, row_group_size=_ROWS_A_GROUP, **options)
        count += len(rows)
    # Last: a folder without it is not whole.
    write_file(folder / ABOUT, json.dumps({**about, "pairs": count}, indent=1))
    return count


def _batches(pairs: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        rows.append(pair)
        if len(rows) == size:
            yield rows
            rows = []
    if rows:
        yield rows


class Ours(Benchmark):
    """A folder that `reasonray benchmark` has made.

    Raises:
        UserError: it is none.
    """

    name = "ours"
    yardstick = "truth"
    num_published = 0

    def __init__(self, path: str) -> None:
        if not self.is_at(path):
            raise UserError(
                f"benchmark {path}: no folder of reasonray benchmark (no {ABOUT}); for a "
                "public one give NAME=PATH"
            )
        self._folder = place(path, "benchmark")

    @staticmethod
    def is_at(path: str) -> bool:
        """Whether there is one."""
        folder = place(path, "benchmark")
        with reached(folder, "benchmark"):
            return bool((folder / ABOUT).exists())

    def items(self) -> Sequence[Item]:
        """All of its instructions, in the order of the pairs.

        Raises:
            UserError: a file is damaged or lost, or two pairs have one id; names it.
        """
        with reached(self._folder, "benchmark"):
            num_pairs = read_json(self._folder / ABOUT).get("pairs")
            pairs = [row for path in files(self._folder / PAIRS, ".parquet") for row in _rows(path)]
        if len(pairs) != num_pairs:
            raise UserError(
                f"benchmark {self._folder}: {PAIRS}/ holds {len(pairs)} pairs, {ABOUT} says "
                f"{num_pairs}: a file is lost or was added; copy or make the benchmark anew"
            )
        return [item for where, row in pairs for item in _items(where, row)]

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """The metrics as they are."""
        return {name: None if axes is None else axes.get(name) for name in TRUTH_METRICS}

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """By kind of instruction."""
        return means(
            scored,
            lambda each: single(self.score(each.item, each.axes)),
            lambda item: (item.group,),
        )


def _rows(path: Place) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of a file its rows without their pictures, and where each lies."""
    names = [name for name in SCHEMA.names if name not in ("input_image", "truth")]
    with undamaged(path, _REMEDY), parquet(path) as file:
        if lacking := set(SCHEMA.names) - set(file.schema_arrow.names):
            raise UserError(f"{path}: without {', '.join(sorted(lacking))}; {_REMEDY}")
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=names).to_pylist()
            for number, row in enumerate(rows):
                yield f"{path}#{group}/{number}", row


def _items(where: str, row: dict[str, Any]) -> Iterator[Item]:
    instructions = row["instructions"] or ()
    is_whole = all(
        isinstance(each, Mapping) and each.get("kind") and each.get("text") for each in instructions
    )
    if row["id"] is None or not instructions or not is_whole:
        raise UserError(
            f"{where}: expected an id, and of each instruction kind and text; {_REMEDY}"
        )
    for instruction in row["instructions"]:
        yield Item(
            id=f"{row['id']}#{instruction['kind']}",
            group=instruction["kind"].partition("-")[0],
            language="en",
            pictures=(Picture(f"{where}/input_image"),),
            instruction=instruction["text"],
            references=(Picture(f"{where}/truth"),),
            reference_text=row["truth_caption"] or "",
            input_caption=row["input_caption"] or "",
            fields={name: row.get(name) for name in (*FACETS, "box")},
        )

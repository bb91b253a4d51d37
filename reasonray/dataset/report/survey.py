"""What there is to tell about an output: counts over all rows and a random sample of whole rows.

Works on a finished output and on what a run that is still going has committed. Of the images it
reads only those of sampled rows, row group by row group. Knows nothing of HTML.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonray.core.errors import RunError
from reasonray.core.place import Place, parquet
from reasonray.core.record import PARTS, Row, Scores, to_rows
from reasonray.dataset.manifest import KINDS, Kind, Manifest, PoolTiming, StageTiming
from reasonray.dataset.reading import shards

SEED = 0
"""Of the random sample: the same rows at every call on the same output."""

_WORDS = ["part", "source", "stage", "reason", "reasoning_type", "selected_category"]
_WORDS += ["target_category", "license"]
_INDEX = pa.schema(
    [
        *((name, pa.dictionary(pa.int32(), pa.string())) for name in _WORDS),
        ("instruction", pa.int64()),
        *((name, pa.float32()) for name in Scores.__annotations__),
    ]
)
"""What is held of a row, some 80 bytes: of its instruction a hash."""

_TABLES_AT_ONCE = 64


@dataclass(frozen=True)
class Snapshot:
    """An output at one moment: where its rows lie, and what is known beside them.

    Attributes:
        folder: the output.
        files: kind -> its Parquet files -> the places in it of the rows that count; None: all.
        recipe: as run.
        timings: by stage.
        pools: by pool, the time of its processes.
        seconds: wall time so far.
        planned: rows that there will be; None when the run is finished.
        version, recipe_hash, distinct_instructions: None while the run is going.
        divergence_threshold: likewise; what the rank form of Eq. 1 came to.
        warnings: what the user was told of the inputs.
    """

    folder: Place
    files: Mapping[Kind, Mapping[Place, Sequence[int] | None]]
    recipe: dict[str, Any]
    timings: Mapping[str, StageTiming]
    seconds: float
    pools: Mapping[str, PoolTiming] = field(default_factory=dict)
    planned: int | None = None
    version: str | None = None
    recipe_hash: str | None = None
    distinct_instructions: int | None = None
    divergence_threshold: float | None = None
    warnings: Sequence[str] = ()

    @classmethod
    def of_finished(cls, folder: Place, manifest: Manifest) -> "Snapshot":
        """A complete output, by its manifest."""
        return cls(
            folder=folder,
            files={kind: dict.fromkeys(shards(folder, manifest, kind)) for kind in KINDS},
            recipe=manifest.recipe,
            timings=manifest.stages,
            seconds=manifest.seconds,
            pools=manifest.pools,
            version=manifest.reasonray,
            recipe_hash=manifest.recipe_hash,
            distinct_instructions=manifest.distinct_instructions,
            divergence_threshold=manifest.divergence_threshold,
            warnings=manifest.warnings,
        )


class Survey:
    """What there is to tell about a snapshot.

    Args:
        snapshot: its light columns are read at once, whole rows when they are asked for.

    Raises:
        RunError: the run removed its files meanwhile.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.timings = {n: snapshot.timings[n] for n in self.stages if n in snapshot.timings}
        try:
            self._groups = {kind: _row_groups(snapshot.files[kind]) for kind in KINDS}
            self.index = {kind: _index(snapshot.files[kind]) for kind in KINDS}
        except FileNotFoundError as error:
            raise RunError(
                f"{snapshot.folder}: its run has finished while the report was made; ask for it "
                "once more"
            ) from error

    @cached_property
    def stages(self) -> list[str]:
        """All stages, in order."""
        return [name for pool in self.snapshot.recipe["pools"] for name in pool["stages"]]

    def count(self, kind: Kind) -> int:
        """Rows of a kind."""
        return int(self.index[kind].num_rows)

    def lost(self) -> dict[str, Counter[str]]:
        """Stage -> reason -> rows that it rejected."""
        lost: dict[str, Counter[str]] = {name: Counter() for name in self.stages}
        for (stage, reason), count in self._pairs("rejected", "stage", "reason").items():
            lost.setdefault(stage, Counter())[reason] += count
        return lost

    def values(self, column: str, kind: Kind = "accepted") -> Counter[str]:
        """How often each value of a column occurs, nulls left out."""
        counted = pc.value_counts(self.index[kind][column].drop_null()).to_pylist()
        return Counter({each["values"]: each["counts"] for each in counted})

    def replacements(self) -> Counter[tuple[str, str]]:
        """(selected, target) -> accepted rows."""
        return self._pairs("accepted", "selected_category", "target_category")

    def score(self, name: str, kind: Kind) -> NDArray[np.float64]:
        """All values of one score that were measured."""
        values: NDArray[np.float64] = self.index[kind][name].drop_null().to_numpy().astype(float)
        return values[np.isfinite(values)]

    def score_names(self) -> list[str]:
        """The scores that some row has."""
        return [n for n in Scores.__annotations__ if any(len(self.score(n, k)) for k in KINDS)]

    def sample(self, num_each_part: int) -> list[Row]:
        """Accepted rows chosen at random, so many of each part, read whole; the parts in turn."""
        part = self.index["accepted"]["part"]
        drawn = [_draw(np.flatnonzero(_is(part, name)), num_each_part) for name in PARTS]
        places = [place for turn in zip_longest(*drawn) for place in turn if place is not None]
        return self._rows("accepted", places)

    def sample_rejected(self, stage: str, reason: str, count: int) -> list[Row]:
        """Rows of one stage and reason chosen at random, read whole."""
        table = self.index["rejected"]
        mask = _is(table["stage"], stage) & _is(table["reason"], reason)
        return self._rows("rejected", _draw(np.flatnonzero(mask), count))

    def same_words(self, count: int) -> list[Row]:
        """Samples of one instruction with different targets, where there is one with three."""
        index = self.index["accepted"]
        # One place for each target of each instruction, the first.
        table = pa.table(
            {
                "instruction": index["instruction"],
                "target": index["target_category"].combine_chunks().indices,
                "place": np.arange(index.num_rows),
            }
        ).drop_null()
        pairs = table.group_by(["instruction", "target"]).aggregate([("place", "min")])
        counted = pairs.group_by("instruction").aggregate(
            [("place_min", "count"), ("place_min", "min")]
        )
        counted = counted.rename_columns(["instruction", "targets", "first"])
        counted = counted.sort_by([("targets", "descending"), ("first", "ascending")])
        if not counted.num_rows or counted["targets"][0].as_py() < 3:
            return []
        theirs = pairs.filter(pc.equal(pairs["instruction"], counted["instruction"][0]))
        return self._rows("accepted", _draw(np.sort(theirs["place_min"].to_numpy()), count))

    def _pairs(self, kind: Kind, first: str, second: str) -> Counter[tuple[str, str]]:
        """How often two values stand together, nulls left out."""
        table = self.index[kind].select([first, second]).drop_null()
        counted = table.group_by([first, second]).aggregate([([], "count_all")])
        return Counter({(row[first], row[second]): row["count_all"] for row in counted.to_pylist()})

    def _rows(self, kind: Kind, places: Sequence[int]) -> list[Row]:
        """Whole rows by their places, in the order asked for; each row group is read once."""
        groups: dict[tuple[Place, int], dict[int, int]] = {}
        starts = [group.start for group in self._groups[kind]]
        for order, place in enumerate(places):
            group = self._groups[kind][int(np.searchsorted(starts, place, side="right")) - 1]
            row = group.rows[place - group.start]
            groups.setdefault((group.path, group.number), {})[order] = row
        rows: dict[int, Row] = {}
        for (path, number), inside in groups.items():
            table = parquet(path).read_row_group(number).take(list(inside.values()))
            rows.update(zip(inside, to_rows(table), strict=True))
        return [rows[order] for order in range(len(places))]


@dataclass(frozen=True)
class _Group:
    """A row group some of whose rows count.

    Attributes:
        start: the place of the first of them among all rows of the kind.
        path: of the file.
        number: of the group in it.
        rows: their places in the group, in order.
    """

    start: int
    path: Place
    number: int
    rows: Sequence[int]


def _row_groups(files: Mapping[Place, Sequence[int] | None]) -> list[_Group]:
    """The row groups that are not empty, over all files."""
    groups, start = [], 0
    for path, chosen in files.items():
        metadata, first = parquet(path).metadata, 0
        counted = None if chosen is None else set(chosen)
        for number in range(metadata.num_row_groups):
            every = range(first, first + metadata.row_group(number).num_rows)
            first = every.stop
            inside: Sequence[int] = range(len(every))
            if counted is not None:
                inside = [row for row in inside if every.start + row in counted]
            if inside:
                groups.append(_Group(start, path, number, inside))
            start += len(inside)
    return groups


def _index(files: Mapping[Place, Sequence[int] | None]) -> pa.Table:
    """Of all rows what `_INDEX` has; what a kind of file lacks is null."""
    tables = [_INDEX.empty_table()]
    for path, chosen in files.items():
        file = parquet(path)
        columns = [*_WORDS, "instruction", "scores"]
        table = file.read(columns=[n for n in columns if n in file.schema_arrow.names])
        tables.append(_compact(table if chosen is None else table.take(sorted(chosen))))
        if len(tables) > _TABLES_AT_ONCE:
            # A table of its own for each of many small files takes more than what is in it.
            tables = [_merged(tables)]
    return _merged(tables)


def _merged(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def _compact(table: pa.Table) -> pa.Table:
    words = [name for name in _WORDS if name in table.column_names]
    columns = {name: pc.dictionary_encode(table[name].cast(pa.string())) for name in words}
    texts = table["instruction"].to_pylist()
    columns["instruction"] = pa.array([None if text is None else hash(text) for text in texts])
    for name in Scores.__annotations__:
        columns[name] = pc.struct_field(table["scores"], name)
    empty = {field.name: pa.nulls(table.num_rows, field.type) for field in _INDEX}
    return pa.table({**empty, **columns}).cast(_INDEX)


def _is(column: pa.ChunkedArray, word: str) -> NDArray[np.bool_]:
    """Which rows have a word."""
    codes = column.combine_chunks()
    code = codes.dictionary.index(word).as_py()
    equal: NDArray[np.bool_] = pc.fill_null(codes.indices, -1).to_numpy() == code
    return equal if code >= 0 else np.zeros(len(codes), bool)


def _draw(places: NDArray[np.intp], count: int) -> list[int]:
    """So many of the places at random, in ascending order."""
    chosen = random.Random(SEED).sample(range(len(places)), min(count, len(places)))
    return sorted(int(places[i]) for i in chosen)

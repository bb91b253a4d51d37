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

_COLUMNS = ["part", "source", "stage", "reason", "reasoning_type", "instruction"]
_COLUMNS += ["selected_category", "target_category", "scores", "license"]


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
        rejected = self.index["rejected"]
        lost: dict[str, Counter[str]] = {name: Counter() for name in self.stages}
        pairs = zip(rejected["stage"].to_pylist(), rejected["reason"].to_pylist(), strict=True)
        for stage, reason in pairs:
            lost.setdefault(stage, Counter())[reason] += 1
        return lost

    def values(self, column: str, kind: Kind = "accepted") -> Counter[str]:
        """How often each value of a column occurs, nulls left out."""
        counted = pc.value_counts(self.index[kind][column].drop_null()).to_pylist()
        return Counter({each["values"]: each["counts"] for each in counted})

    def replacements(self) -> Counter[tuple[str, str]]:
        """(selected, target) -> accepted rows."""
        table = self.index["accepted"].select(["selected_category", "target_category"])
        counted = table.drop_null().group_by(table.column_names).aggregate([([], "count_all")])
        return Counter(
            {
                (row["selected_category"], row["target_category"]): row["count_all"]
                for row in counted.to_pylist()
            }
        )

    def score(self, name: str, kind: Kind) -> NDArray[np.float64]:
        """All values of one score that were measured."""
        column = pc.struct_field(self.index[kind]["scores"], name).drop_null()
        values: NDArray[np.float64] = column.to_numpy().astype(np.float64)
        return values[np.isfinite(values)]

    def score_names(self) -> list[str]:
        """The scores that some row has."""
        return [n for n in Scores.__annotations__ if any(len(self.score(n, k)) for k in KINDS)]

    def sample(self, num_each_part: int) -> list[Row]:
        """Accepted rows chosen at random, so many of each part, read whole; the parts in turn."""
        part = self.index["accepted"]["part"]
        drawn = [
            _draw(np.flatnonzero(pc.equal(part, name).to_numpy()), num_each_part) for name in PARTS
        ]
        places = [place for turn in zip_longest(*drawn) for place in turn if place is not None]
        return self._rows("accepted", places)

    def sample_rejected(self, stage: str, reason: str, count: int) -> list[Row]:
        """Rows of one stage and reason chosen at random, read whole."""
        table = self.index["rejected"]
        mask = pc.and_(pc.equal(table["stage"], stage), pc.equal(table["reason"], reason))
        return self._rows("rejected", _draw(np.flatnonzero(mask.to_numpy()), count))

    def same_words(self, count: int) -> list[Row]:
        """Samples of one instruction with different targets, where there is one with three."""
        table = self.index["accepted"].select(["instruction", "target_category"])
        counted = table.group_by("instruction").aggregate([("target_category", "count_distinct")])
        counted = counted.sort_by(
            [("target_category_count_distinct", "descending"), ("instruction", "ascending")]
        )
        if not counted.num_rows or counted["target_category_count_distinct"][0].as_py() < 3:
            return []
        words = counted["instruction"][0]
        places: dict[str, int] = {}
        for place in np.flatnonzero(pc.equal(table["instruction"], words).to_numpy()):
            target = table["target_category"][int(place)].as_py()
            if target is not None:
                places.setdefault(target, int(place))
        return self._rows("accepted", _draw(np.array(list(places.values())), count))

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
            rows = [row - every.start for row in every if counted is None or row in counted]
            if rows:
                groups.append(_Group(start, path, number, rows))
            start += len(rows)
    return groups


def _index(files: Mapping[Place, Sequence[int] | None]) -> pa.Table:
    """The light columns of all rows; what a kind of file lacks is null."""
    tables = []
    for path, chosen in files.items():
        file = parquet(path)
        table = file.read(columns=[n for n in _COLUMNS if n in file.schema_arrow.names])
        tables.append(table if chosen is None else table.take(sorted(chosen)))
    types = {name: pa.string() for name in _COLUMNS}
    empty: dict[str, Any] = {name: pa.array([], kind) for name, kind in types.items()}
    empty["scores"] = pa.array([], pa.struct([(n, pa.float32()) for n in Scores.__annotations__]))
    tables.append(pa.table(empty))
    merged = pa.concat_tables(tables, promote_options="default")
    return merged.replace_schema_metadata(None).combine_chunks()


def _draw(places: NDArray[np.intp], count: int) -> list[int]:
    """So many of the places at random, in ascending order."""
    chosen = random.Random(SEED).sample(range(len(places)), min(count, len(places)))
    return sorted(int(places[i]) for i in chosen)

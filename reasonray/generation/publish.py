"""From finished rows to the shards of an output, in the order of the plan.

The plan is cut into stretches, each for one shard of accepted and one of rejected rows. Stretches
are written side by side and noted when they are whole: what is started again after a kill goes on
with those that are missing. Where the cuts are depends on the rows alone, not on the blocks in
which they were made.

    DIR/accepted/<stretch>-<session>.parquet, DIR/rejected/…    the shards
    DIR/.run/published/<stretch>.json                           which are whole, and of what rows
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasonray.core.console import say
from reasonray.core.place import Place, files, make_folder, parquet
from reasonray.core.record import REJECTED_SCHEMA
from reasonray.core.sections import OutputConfig
from reasonray.core.session import Session
from reasonray.core.writing import replaced, write_file
from reasonray.dataset.manifest import KINDS, Kind, Summary
from reasonray.dataset.shards import Shard, with_image_features
from reasonray.generation.audit import NEAR_DUPLICATE, Judged
from reasonray.generation.stretches import Stretch, split, stretches
from reasonray.generation.workspace import Workspace

MAX_HERE = 64_000_000
"""Bytes that this process writes itself: sooner than Ray has started another one, and in little
memory."""

_ROWS_AT_ONCE = 5_000
"""That are counted together, without their pictures."""


class Published(NamedTuple):
    """What became of a stretch, or of all of them.

    Attributes:
        summary: of the rows.
        shards: their files, of each kind, below the output, in the order of the plan.
    """

    summary: Summary
    shards: dict[Kind, list[str]]


Written = list[tuple[int, Published]]
"""Numbers of stretches, and what became of them."""

Spread = Callable[[list[Stretch]], Iterable[Written]]
"""Has stretches written by several processes, in whatever order."""


def write_shards(
    workspace: Workspace,
    session: Session,
    rows: Judged,
    config: OutputConfig,
    spread: Spread | None = None,
) -> Published:
    """Write rows into `accepted/` and `rejected/`.

    Args:
        workspace: of the output.
        session: whose name the shards bear: what another one leaves there is not of the dataset.
        rows: all that the output is to hold.
        config: of the shards.
        spread: who writes where there is much; None: this process does.
    """
    every = stretches(workspace, session, config, rows)
    make_folder(workspace.folder / "published")
    for kind in KINDS:
        make_folder(workspace.output / kind)
    noted = {path.name for path in files(workspace.folder / "published")}
    if num_noted := sum(stretch.note.name in noted for stretch in every):
        say(
            f"{workspace.output}: publishing goes on, {num_noted} of {len(every)} stretches of "
            "the plan are written"
        )
    published: dict[int, Published] = {}
    is_much = sum(stretch.num_bytes for stretch in every) > MAX_HERE
    for written in spread(every) if spread and is_much else [write(every)]:
        published.update(written)
    return _together(workspace.output, session, config, published)


def write(stretches: Sequence[Stretch]) -> Written:
    """Write the shards of neighbouring stretches, those that are not there yet.

    Of pictures no more is held than a row group of each kind and the blocks it is made from.
    """
    written = [(stretch.number, _written_before(stretch)) for stretch in stretches]
    left = [stretch for stretch, (_, before) in zip(stretches, written, strict=True) if not before]
    reader = _Reader(left)
    summaries = {stretch.number: _write(stretch, reader) for stretch in left}
    return [(number, before or summaries[number]) for number, before in written]


def _write(stretch: Stretch, reader: "_Reader") -> Published:
    """Write the shards of a stretch, and note that they are whole."""
    writers: dict[Kind, _Writer] = {}
    with contextlib.ExitStack() as shards:
        for kind, run in stretch.runs():
            if kind not in writers:
                temporary = shards.enter_context(replaced(stretch.output / stretch.shard(kind)))
                writers[kind] = _Writer(temporary, kind, stretch.config)
                shards.enter_context(contextlib.closing(writers[kind]))
            for places, table in reader.rows(stretch, run):
                if kind == "rejected":
                    table = _mark(table, [stretch.duplicates.get(place) for place in places])
                writers[kind].write(table)
    summary = Summary()
    for writer in writers.values():
        summary.merge(writer.summary)
    names = {kind: [stretch.shard(kind)] for kind in writers}
    write_file(stretch.note, json.dumps({"digest": stretch.digest, "shards": names}))
    return Published(summary, names)


class _Writer:
    """A shard, and what is counted of its rows."""

    def __init__(self, path: Place, kind: Kind, config: OutputConfig) -> None:
        self.summary, self._kind = Summary(), kind
        self._shard = Shard(path, with_image_features(KINDS[kind]), config)
        self._uncounted: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        self._shard.write(table)
        self._uncounted.append(table.select(Summary.COLUMNS[self._kind]))
        if sum(each.num_rows for each in self._uncounted) >= _ROWS_AT_ONCE:
            self._count()

    def close(self) -> None:
        self._count()
        self._shard.close()

    def _count(self) -> None:
        if self._uncounted:
            self.summary.add(pa.concat_tables(self._uncounted), self._kind)
            self._uncounted = []


class _Reader:
    """Rows of files, of which each row group is read once and held while more of it is needed."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        """Nothing is opened yet.

        Args:
            stretches: whose rows will be asked for, each once.
        """
        self._needed: dict[str, list[NDArray[np.int64]]] = {}
        self._files: dict[str, _File] = {}
        for stretch in stretches:
            order = np.argsort(stretch.file, kind="stable")
            for part in split(order, stretch.file[order]):
                name = stretch.names[stretch.file[part[0]]]
                self._needed.setdefault(name, []).append(stretch.row[part])

    def rows(
        self, stretch: Stretch, run: NDArray[np.int64]
    ) -> Iterator[tuple[list[int], pa.Table]]:
        """Rows of a stretch, row group by row group.

        Args:
            stretch: one of those given.
            run: places in it, of rows of one file.

        Yields:
            Some of the places, and their rows.
        """
        name = stretch.names[stretch.file[run[0]]]
        if name not in self._files:
            needed = np.concatenate(self._needed.pop(name))
            self._files[name] = _File(stretch.output / ".run" / "work" / name, needed)
        file = self._files[name]
        groups = file.groups(stretch.row[run])
        for part in split(np.arange(len(run)), groups):
            yield run[part].tolist(), file.take(int(groups[part[0]]), stretch.row[run[part]])
        if not file.num_needed:
            del self._files[name]


class _File:
    """A file of finished rows.

    Attributes:
        num_needed: rows that are still to be taken.
    """

    def __init__(self, path: Place, needed: NDArray[np.int64]) -> None:
        self._file = parquet(path)
        metadata = self._file.metadata
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._num_needed = np.bincount(self.groups(needed), minlength=len(sizes))
        self._tables: dict[int, pa.Table] = {}
        self.num_needed = len(needed)

    def groups(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row group of each row."""
        return np.searchsorted(self._starts, rows, side="right") - 1

    def take(self, group: int, rows: NDArray[np.int64]) -> pa.Table:
        """Rows of a row group, in this order."""
        if group not in self._tables:
            self._tables[group] = self._file.read_row_group(
                group, columns=REJECTED_SCHEMA.names, use_threads=False
            )
        table, inside = self._tables[group], rows - self._starts[group]
        self._num_needed[group] -= len(rows)
        self.num_needed -= len(rows)
        if not self._num_needed[group]:
            del self._tables[group]
        if (np.diff(inside) == 1).all():
            return table.slice(int(inside[0]), len(inside))
        return table.take(pa.array(inside))


def _mark(table: pa.Table, originals: list[str | None]) -> pa.Table:
    """Give near-duplicates their reason.

    Args:
        table: rows to be rejected.
        originals: of each row the id that it looks like; None: it is no near-duplicate.
    """
    if not any(originals):
        return table
    for name in ("stage", "reason", "detail"):
        values = table[name].to_pylist()
        for place, original in enumerate(originals):
            if original is not None:
                values[place] = {
                    "stage": "quality",
                    "reason": NEAR_DUPLICATE,
                    "detail": f"the edited image looks like that of {original}",
                }[name]
        column = table.schema.get_field_index(name)
        table = table.set_column(column, name, pa.array(values, pa.string()))
    return table


def _written_before(stretch: Stretch) -> Published | None:
    """What an earlier session made of a stretch; None: not all, or of other rows."""
    try:
        note = json.loads(stretch.note.read_bytes())
        if note["digest"] != stretch.digest:
            return None
        summary = Summary()
        for kind, names in note["shards"].items():
            for name in names:
                file, columns = parquet(stretch.output / name), Summary.COLUMNS[kind]
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                    summary.add(pa.Table.from_batches([batch]), kind)
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None  # or damaged
    return Published(summary, note["shards"])


def _together(
    output: Place, session: Session, config: OutputConfig, published: dict[int, Published]
) -> Published:
    """All stretches as one."""
    whole = Published(Summary(), {kind: [] for kind in KINDS})
    for _, each in sorted(published.items()):
        whole.summary.merge(each.summary)
        for kind, names in each.shards.items():
            whole.shards[kind] += names
    for kind, shards in whole.shards.items():
        if not shards:
            # A reader who asks for them finds that there are none.
            shards.append(f"{kind}/00000-{session.name}.parquet")
            with replaced(output / shards[0]) as temporary:
                Shard(temporary, with_image_features(KINDS[kind]), config).close()
    return whole


def remove_others(output: Place, shards: Mapping[Kind, Sequence[str]]) -> None:
    """Remove the shards of sessions that ended before they could publish.

    Args:
        output: that is complete: before it is, others' shards may become those that count.
        shards: as its manifest names them.
    """
    for kind, names in shards.items():
        for path in files(output / kind, ".parquet"):
            if f"{kind}/{path.name}" not in names:
                path.unlink(missing_ok=True)

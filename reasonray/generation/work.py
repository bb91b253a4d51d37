"""Finished rows: where each session's lie, and which of all of them count.

    work/<session>/input/        what of the plan was left for it, where earlier ones did some
    work/<session>/rows/         its finished rows, in `status=accepted` and `status=rejected`
    work/<session>/checkpoint/   their ids: a row counts when its id stands here
    sealed/<session>.parquet     what counts of all sessions before it: `INDEX`

Ray Data commits there in two phases: data, then the ids' file by a move, which on an object store
is a copy and a deletion. So it never resumes in a folder in which something is: each session has
its own, and its successor seals what was committed in it. A process of a session that was taken
for dead may still commit; it is in no seal, and does not count.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reasonray.core.console import say
from reasonray.core.place import Place, files, make_folder, parquet
from reasonray.core.session import Session
from reasonray.core.writing import replaced
from reasonray.generation.workspace import Workspace

INDEX = pa.schema(
    [
        ("id", pa.string()),
        ("session", pa.int32()),
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int32()),
        ("status", pa.dictionary(pa.int32(), pa.string())),
        ("reason", pa.dictionary(pa.int32(), pa.string())),
    ]
)
"""Of each finished row: its session, its file below `.run/work` and its place in it, accepted or
rejected, and why."""

_NUM_READERS = 8
_FILES_AT_ONCE = 256


class Work:
    """What is finished, for one session."""

    def __init__(self, workspace: Workspace, session: Session) -> None:
        self.output = workspace.output
        self.root, self._number = workspace.folder / "work", session.number
        self._seals = workspace.folder / "sealed"
        self.folder = self.root / session.name
        for folder in (self.input, self.rows, self.checkpoint, self._seals):
            make_folder(folder)

    @property
    def input(self) -> Place:
        """Where the rows stand that this session is to do, if they are not the whole plan."""
        return self.folder / "input"

    @property
    def rows(self) -> Place:
        """Where this session's finished rows go."""
        return self.folder / "rows"

    @property
    def checkpoint(self) -> Place:
        """Where Ray Data notes what is finished."""
        return self.folder / "checkpoint"

    def before(self) -> pa.Table:
        """What all earlier sessions have finished: `INDEX`, no id twice."""
        return finished(self.root, self._seals, self._number - 1)

    def seal(self, index: pa.Table) -> None:
        """Settle what counts of all earlier sessions; what they finish later does not.

        Args:
            index: all or some of `before`.
        """
        with replaced(_seal(self._seals, self._number)) as temporary:
            pq.write_table(index, temporary)

    def index(self) -> pa.Table:
        """What is sealed, and what this session has finished: `INDEX`, no id twice."""
        return finished(self.root, self._seals, self._number)

    def read(self, index: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Columns of finished rows.

        Args:
            index: which rows, as `index` has them.
            columns: of the files.

        Returns:
            The rows in the order of the index.
        """
        return read_rows(self.root, index, columns)


def finished(root: Place, seals: Place, last: int) -> pa.Table:
    """What counts at the end of a session: `INDEX`, no id twice.

    Args:
        root: `.run/work`.
        seals: `.run/sealed`.
        last: number of the session.
    """
    sealed = [int(path.stem) for path in files(seals, ".parquet") if int(path.stem) <= last]
    start = max(sealed, default=1)
    tables = [INDEX.empty_table()]
    if sealed:
        tables.append(parquet(_seal(seals, start)).read().cast(INDEX))
    for number in range(start, last + 1):
        tables += _committed(root, number)
    index = _merged(tables)
    if pc.count_distinct(index["id"]).as_py() == index.num_rows:
        return index
    # Two sessions did a row where the first one's commit came too late for the second's seal.
    numbered = index.select(["id"]).append_column("place", pa.array(range(index.num_rows)))
    first = numbered.group_by("id").aggregate([("place", "min")])["place_min"]
    return index.take(first.combine_chunks().sort())


def read_rows(root: Place, index: pa.Table, columns: Sequence[str]) -> pa.Table:
    """`Work.read`, of whatever session."""
    chosen = by_file(index)

    def read(file: tuple[str, pa.Array]) -> pa.Table:
        table = parquet(root / file[0]).read(columns=list(columns), use_threads=False)
        return table if table.num_rows == len(file[1]) else table.take(file[1])

    tables = [pa.table({name: [] for name in columns})] if not chosen else []
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        for start in range(0, len(chosen), _FILES_AT_ONCE):
            some = readers.map(read, chosen[start : start + _FILES_AT_ONCE])
            tables.append(pa.concat_tables(some).combine_chunks())
    order = _file_order(index)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return pa.concat_tables(tables).take(pa.array(places))


def by_file(index: pa.Table) -> list[tuple[str, pa.Array]]:
    """Each file below `.run/work` that an `INDEX` names, and its rows' places, ascending."""
    if not index.num_rows:
        return []
    names = index["file"].unify_dictionaries().combine_chunks()
    order = _file_order(index)
    codes, rows = names.indices.to_numpy()[order], index["row"].to_numpy()[order]
    starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    return [
        (names.dictionary[int(codes[start])].as_py(), pa.array(rows[start:stop]))
        for start, stop in pairwise(starts)
    ]


def _file_order(index: pa.Table) -> NDArray[np.int64]:
    """Where the rows stand if they are sorted by file, and in it by place."""
    codes = index["file"].unify_dictionaries().combine_chunks().indices.to_numpy()
    return np.lexsort((index["row"].to_numpy(), codes))


def _committed(root: Place, number: int) -> list[pa.Table]:
    """What one session has committed and what is whole of it: `INDEX`, block by block.

    A block counts if the file with its ids is there, and its data files hold as many rows: one
    can be damaged by a disk that was full or a machine that lost power. Its pending twin, which
    an end in the middle of a move leaves on a store, says nothing.
    """
    folder = root / f"{number:06}"
    data: dict[str, list[Place]] = {}
    for path in files(folder / "rows", ".parquet"):
        data.setdefault(path.stem.rpartition("-")[0], []).append(path)
    marks = [mark for mark in files(folder / "checkpoint", ".parquet") if mark.stem in data]

    def block(mark: Place) -> pa.Table | None:
        try:
            num_marked = parquet(mark).metadata.num_rows
            tables = [_indexed(path, number) for path in data[mark.stem]]
        except (pa.ArrowInvalid, OSError) as error:
            if not _is_damage(mark, error):
                raise
            return None
        whole = pa.concat_tables(tables)
        return whole if whole.num_rows == num_marked else None

    tables, num_damaged = [], 0
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        for start in range(0, len(marks), _FILES_AT_ONCE):
            some = list(readers.map(block, marks[start : start + _FILES_AT_ONCE]))
            whole = [table for table in some if table is not None]
            num_damaged += len(some) - len(whole)
            # A table of its own for each of many small files takes more than what is in it.
            tables.append(_merged([INDEX.empty_table(), *whole]))
    if num_damaged:
        say(f"{folder}: {num_damaged} blocks of rows are damaged; they are done again")
    return tables


def _merged(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def _is_damage(path: Place, error: Exception) -> bool:
    """Whether a file is cut off or gone; else its disk or its store fails, which may pass."""
    # Arrow raises a bare OSError for a footer that makes no sense; a store for a refusal.
    is_bare = type(error) is OSError and error.errno is None and isinstance(path, Path)
    return is_bare or isinstance(error, pa.ArrowInvalid | FileNotFoundError)


def _indexed(path: Place, number: int) -> pa.Table:
    status = path.parent.name.removeprefix("status=")
    table = parquet(path).read(columns=["id", "reason"], use_threads=False)
    count = table.num_rows
    reason = table["reason"] if status == "rejected" else pa.nulls(count, pa.string())
    columns = {
        "id": table["id"],
        "session": pa.repeat(pa.scalar(number, pa.int32()), count),
        "file": _repeated(f"{number:06}/rows/{path.parent.name}/{path.name}", count),
        "row": pa.array(np.arange(count, dtype=np.int32)),
        "status": _repeated(status, count),
        "reason": reason.cast(pa.string()).dictionary_encode(),
    }
    return pa.table(columns).cast(INDEX)


def _repeated(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [text])


def _seal(seals: Place, number: int) -> Place:
    return seals / f"{number:06}.parquet"

"""One chunk of a benchmark's items through an editor, where each row may fail, hang or end all.

A chunk is edited as a whole. If that raises, its rows are edited alone, and what fails again is a
failure of its row. A row that hangs, or with which its process ends, cannot be caught here: the
process ends, and the next one of the same evaluation, which finds what was begun, edits the rows
alone. So a chunk leaves traces in a folder beside its file until that is whole:

    whole.SESSION-1, -2  each time that it was begun as a whole
    alone                its rows are edited alone from now on
    ROW.SESSION-1, -2    each time that a row was begun alone
    ROW.late             it was not there in time
    ROW.parquet          it is done
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import PIL.Image
import pyarrow as pa

from reasonray.core import images
from reasonray.core.errors import RowError, RunError, UserError
from reasonray.core.place import Place, make_folder, parquet, remove
from reasonray.core.record import sample_seed
from reasonray.core.writing import write_table
from reasonray.evaluation.editors import ByItem, Edits
from reasonray.evaluation.items import Item

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("picture", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("seconds", pa.float64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""An item's edited picture (PNG) and its seconds, or why there is none. Rows that were edited
together have the mean of their seconds."""

_Result = TypeVar("_Result")

MAX_ENDS = 2
"""A chunk or row with which so many processes of one session have ended is to blame: one may have
been on a machine that was lost, and who kills an evaluation kills a session."""


@dataclass(frozen=True)
class Edited:
    """What came of an item.

    Attributes:
        id: of the item.
        picture: that the editor made; None: it made none.
        seconds: that it took.
        reason, detail: why there is none: a short code, and a sentence.
    """

    id: str
    picture: PIL.Image.Image | None
    seconds: float = 0.0
    reason: str | None = None
    detail: str | None = None

    def row(self) -> dict[str, Any]:
        """As it is kept."""
        picture = None if self.picture is None else images.encode_png(self.picture)
        fields = {"id": self.id, "picture": picture, "seconds": self.seconds}
        return {**fields, "reason": self.reason, "detail": self.detail}


def edit_chunk(
    editor: Edits | ByItem,
    items: Sequence[Item],
    path: Place,
    *,
    session: int,
    seed: int,
    timeout_s: float,
) -> int:
    """Edit the items, and write their rows into one file.

    Args:
        editor: under test.
        items: of the chunk.
        path: of the file.
        session: number of the evaluation's session.
        seed: of the evaluation; an edit's own follows from it and the item's id.
        timeout_s: of one edit; the process ends after it.

    Returns:
        How many have no picture.

    Raises:
        RunError: the editor cannot edit anything (its server is away).
    """
    traces = _Traces(path.with_name(f"{path.stem}.rows"), session)
    rows = None
    if not traces.are_alone() and traces.num_begun(_WHOLE) < MAX_ENDS:
        rows = _whole(editor, items, traces, seed, timeout_s)
    if rows is None:
        traces.set_alone()
        alone = [_alone(editor, item, traces, seed, timeout_s) for item in items]
        table = pa.concat_tables(alone)
    else:
        table = pa.Table.from_pylist([row.row() for row in rows], schema=SCHEMA)
    write_table(path, table)
    traces.clear()
    return int(table.num_rows - table["reason"].null_count)


def _whole(
    editor: Edits | ByItem, items: Sequence[Item], traces: "_Traces", seed: int, timeout_s: float
) -> list[Edited] | None:
    """All rows at once; None: one of them failed."""
    if isinstance(editor, ByItem):
        return None
    try:
        pictures = [item.pictures[0].open() for item in items]
    except RowError:
        return None
    traces.begin(_WHOLE)
    start = time.perf_counter()
    try:
        edited = _in_time(
            lambda: _edit(editor, items, pictures, seed),
            timeout_s * len(items),
            at_end=traces.set_alone,
        )
    except (RunError, UserError):
        raise
    except Exception:  # noqa: BLE001  whose row it was shows alone
        traces.set_alone()
        return None
    seconds = (time.perf_counter() - start) / len(items)
    return [_edited(item, picture, seconds) for item, picture in zip(items, edited, strict=True)]


def _edited(item: Item, picture: PIL.Image.Image | RowError, seconds: float) -> Edited:
    if isinstance(picture, RowError):
        return Edited(item.id, None, seconds, picture.reason, picture.detail)
    return Edited(item.id, picture, seconds)


def _alone(
    editor: Edits | ByItem, item: Item, traces: "_Traces", seed: int, timeout_s: float
) -> pa.Table:
    path = traces.path(item.id, "parquet")
    if path.exists():
        return parquet(path).read()
    if traces.is_late(item.id):
        row = Edited(item.id, None, timeout_s, "late", f"no picture within {timeout_s:g} s")
    elif traces.num_begun(item.id) >= MAX_ENDS:
        row = Edited(item.id, None, 0.0, "crashed", "the process ended in this edit, twice")
    else:
        traces.begin(item.id)
        row = _caught(editor, item, traces, seed, timeout_s)
    table = pa.Table.from_pylist([row.row()], schema=SCHEMA)
    write_table(path, table)
    return table


def _caught(
    editor: Edits | ByItem, item: Item, traces: "_Traces", seed: int, timeout_s: float
) -> Edited:
    start = time.perf_counter()
    try:
        if isinstance(editor, ByItem):
            picture: PIL.Image.Image | RowError = editor.picture(item)
        else:
            before = item.pictures[0].open()
            [picture] = _in_time(
                lambda: _edit(editor, [item], [before], seed),
                timeout_s,
                at_end=lambda: traces.set_late(item.id),
            )
    except (RunError, UserError):
        raise
    except RowError as error:
        return Edited(item.id, None, time.perf_counter() - start, error.reason, error.detail)
    except Exception as error:  # noqa: BLE001  an editor may raise anything; the row is told it
        detail = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        return Edited(item.id, None, time.perf_counter() - start, "editor_failed", detail)
    return _edited(item, picture, time.perf_counter() - start)


def _edit(
    editor: Edits, items: Sequence[Item], pictures: Sequence[PIL.Image.Image], seed: int
) -> Sequence[PIL.Image.Image | RowError]:
    seeds = [sample_seed(seed, item.id, "evaluate") for item in items]
    edited = list(editor.edit(pictures, [item.full_instruction for item in items], seeds))
    if len(edited) != len(items):
        raise ValueError(f"{len(edited)} pictures for {len(items)} instructions")
    for picture in edited:
        if not isinstance(picture, PIL.Image.Image | RowError):
            raise TypeError(f"expected a picture of PIL, got {type(picture).__name__}")
    return [each if isinstance(each, RowError) else each.convert("RGB") for each in edited]


def _in_time(action: Callable[[], _Result], seconds: float, at_end: Callable[[], None]) -> _Result:
    """The action's result; the process ends if it does not come in time: a thread cannot be."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="reasonray-edits")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        at_end()
        os._exit(1)
    if errors:
        raise errors[0]
    return results[0]


_WHOLE = "whole"


class _Traces:
    """What was begun of a chunk, in a folder of its own."""

    def __init__(self, folder: Place, session: int) -> None:
        self._folder, self._session = folder, session

    def set_alone(self) -> None:
        self._touch(self._folder / "alone")

    def are_alone(self) -> bool:
        return bool((self._folder / "alone").exists())

    def path(self, item_id: str, ending: str) -> Place:
        # An id may be any text.
        return self._folder / f"{hashlib.sha256(item_id.encode()).hexdigest()}.{ending}"

    def begin(self, item_id: str) -> None:
        self._touch(self._begun(item_id, self.num_begun(item_id) + 1))

    def num_begun(self, item_id: str) -> int:
        return sum(self._begun(item_id, n).exists() for n in range(1, MAX_ENDS + 1))

    def set_late(self, item_id: str) -> None:
        self._touch(self.path(item_id, "late"))

    def is_late(self, item_id: str) -> bool:
        return bool(self.path(item_id, "late").exists())

    def clear(self) -> None:
        remove(self._folder)

    def _begun(self, item_id: str, number: int) -> Place:
        if item_id == _WHOLE:
            return self._folder / f"{_WHOLE}.{self._session}-{number}"
        return self.path(item_id, f"{self._session}-{number}")

    def _touch(self, path: Place) -> None:
        make_folder(self._folder)
        path.write_bytes(b"")

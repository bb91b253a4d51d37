"""One chunk of a benchmark's items through an editor, where each row may fail, hang or end all.

A chunk is edited as a whole. If that raises, its rows are edited alone, and what fails again is a
failure of its row. A row that hangs, or with which its process ends, cannot be caught here: the
process ends, and the next one of the same evaluation, which finds what was begun, edits the rows
alone. So a chunk leaves traces in a folder beside its file until that is whole (`traces`).

An editor that fails on all rows alike stops the evaluation, before they count as its failures;
in the next session they count, until something goes well.
"""

import json
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
from reasonray.core.place import Place, parquet, undamaged
from reasonray.core.record import Image, sample_seed
from reasonray.core.silence import silence
from reasonray.core.writing import write_table
from reasonray.evaluation.chunks import NOTICES, REMEDY, chunk_files, read_chunk
from reasonray.evaluation.editors import ByItem, Edits
from reasonray.evaluation.edits_server import REVISED
from reasonray.evaluation.items import Benchmark, Item
from reasonray.evaluation.traces import MAX_ENDS, Traces
from reasonray.stages.alike import Failure, FailuresAlike, manner

_Result = TypeVar("_Result")

FAILURES = ("editor_failed", "no_picture", "refused", "server_failed", "late", "crashed")
"""Reasons that may be the editor's own: they stop the evaluation if all rows have one of them."""

_FEW = 3
"""So many rows that failed alike, and none that went well, are not the rows' own."""

_MAX_LETTERS = 10_000

_SLOWER = 4
"""So many times as slow as the slowest chunk before may be one that does not hang."""


@dataclass(frozen=True)
class Edited:
    """What came of an item.

    Attributes:
        id: of the item.
        picture: that the editor made, PNG; None: it made none.
        seconds: that it took; rows that were edited together have their mean.
        reason, detail: why there is none: a short code, and a sentence.
        num_unseen: of the item's pictures, that the editor was not given.
        revised: the instruction that the editor has written first, and followed; None: ours.
    """

    id: str
    picture: Image | None
    seconds: float = 0.0
    reason: str | None = None
    detail: str | None = None
    num_unseen: int = 0
    revised: str | None = None


@dataclass(frozen=True)
class _Made:
    """A picture of an editor's, encoded, and the instruction that it has written for it."""

    image: Image
    revised: str | None


SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("picture", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("seconds", pa.float64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("num_unseen", pa.int32()),
        ("revised", pa.string()),
    ]
)
"""`Edited`, as a chunk's file has it."""


class Editing:
    """Edits chunks with one editor.

    Args:
        editor: under test.
        name: of the editor, for messages.
        session: number of the evaluation's session.
        seed: of the evaluation; an edit's own follows from it and the item's id.
        timeout_s: of one edit; the process ends after it.
    """

    def __init__(
        self, editor: Edits | ByItem, name: str, *, session: int, seed: int, timeout_s: float
    ) -> None:
        self._editor, self._session, self._seed = editor, session, seed
        self._timeout_s, self._name = timeout_s, name
        self._takes_several = bool(getattr(editor, "takes_several", False))
        self._slowest_s: float | None = None
        self._has_gone_well = False
        self._alike = FailuresAlike(
            f"editor {name}: the edits of",
            "Look at the editor; with --retry-failed rows that count as failed are edited again",
            _FEW,
        )

    def __call__(self, benchmark: Benchmark, items: Sequence[Item], path: Place) -> int:
        """Edit items of a benchmark, and write their rows into one file.

        Returns:
            How many have no picture.

        Raises:
            RunError: the editor cannot edit anything: its server is away, or all fails alike.
        """
        traces = Traces(path, self._session)
        rows = None
        if isinstance(self._editor, ByItem):
            rows = [_of_item(self._editor, benchmark, item) for item in items]
        elif not traces.are_alone() and traces.num_begun_whole() < MAX_ENDS:
            rows = self._whole(self._editor, items, traces)
        if rows is None:
            assert not isinstance(self._editor, ByItem)
            traces.set_alone()
            rows = [self._alone(self._editor, item, traces) for item in items]
        if any(row.picture is not None for row in rows):
            traces.forget_stops()
        if not isinstance(self._editor, ByItem) and not traces.has_stopped_another():
            self._settle(rows, path, traces)
        table = pa.Table.from_pylist([vars(row) for row in rows], schema=SCHEMA)
        notices = list(getattr(self._editor, "notices", ()))
        write_table(path, table.replace_schema_metadata({NOTICES: json.dumps(notices)}))
        traces.clear()
        return sum(row.picture is None for row in rows)

    def _settle(self, rows: Sequence[Edited], path: Place, traces: Traces) -> None:
        failures = [
            Failure(f"{row.reason}: {manner(row.detail or '')}", f"{row.detail}.")
            for row in rows
            if row.reason in FAILURES
        ]
        num_well = sum(row.picture is not None for row in rows)
        if num_well or (failures and not self._has_gone_well and _has_gone_well_beside(path)):
            self._has_gone_well = True
            self._alike.settle(0, 1, [])
        with self._alike.begun(len(rows)):
            pass  # one chunk at a time: nobody else has rows in work
        try:
            self._alike.settle(len(rows), num_well, failures)
            self._refuse_server(rows)
        except RunError:
            traces.clear()  # all of them have failed, and are edited again
            traces.set_stopped()
            raise

    def _refuse_server(self, rows: Sequence[Edited]) -> None:
        sent = [row for row in rows if row.picture is not None or row.reason in FAILURES]
        if not sent or (len(sent) < _FEW and self._has_gone_well):
            return
        if all(row.reason == "server_failed" for row in sent):
            raise RunError(
                f"editor {self._name}: the server fails on every edit: {sent[-1].detail}. Look at "
                "it; what fails in the next session, too, counts as failed"
            )

    def _whole(self, editor: Edits, items: Sequence[Item], traces: Traces) -> list[Edited] | None:
        """All rows at once; None: one of them failed."""
        try:
            pictures = [self._before(item) for item in items]
        except RowError:
            return None
        traces.begin_whole()
        limit_s = self._timeout_s * len(items)
        if self._slowest_s is not None:
            limit_s = min(limit_s, self._timeout_s + _SLOWER * self._slowest_s * len(items))
        start = time.perf_counter()
        edited = _in_time(
            lambda: self._edit(editor, items, pictures), limit_s, at_end=traces.set_alone
        )
        if isinstance(edited, BaseException):
            return None  # whose row it was shows alone
        seconds = (time.perf_counter() - start) / len(items)
        self._slowest_s = max(seconds, self._slowest_s or 0.0)
        pairs = zip(items, edited, strict=True)
        return [self._row(item, picture, seconds) for item, picture in pairs]

    def _alone(self, editor: Edits, item: Item, traces: Traces) -> Edited:
        path = traces.row(item.id)
        if path.exists():
            [fields] = read_chunk(path, [item]).to_pylist()
            return Edited(**fields)
        if traces.is_late(item.id):
            late = RowError("late", f"no picture within {self._timeout_s:g} s")
            row = self._row(item, late, self._timeout_s)
        elif traces.num_begun(item.id) >= MAX_ENDS:
            crashed = RowError("crashed", "the process ended in this edit, twice")
            row = self._row(item, crashed, 0.0)
        else:
            traces.begin(item.id)
            start = time.perf_counter()
            picture = self._caught(editor, item, traces)
            row = self._row(item, picture, time.perf_counter() - start)
        write_table(path, pa.Table.from_pylist([vars(row)], schema=SCHEMA))
        return row

    def _caught(self, editor: Edits, item: Item, traces: Traces) -> _Made | RowError:
        try:
            before = self._before(item)
        except RowError as error:
            return error
        edited = _in_time(
            lambda: self._edit(editor, [item], [before]),
            self._timeout_s,
            at_end=lambda: traces.set_late(item.id),
        )
        if isinstance(edited, RowError):
            return edited
        if isinstance(edited, BaseException):
            words = " ".join(str(edited).split())[:500]
            return RowError("editor_failed", f"{type(edited).__name__}: {words}")
        return edited[0]

    def _before(self, item: Item) -> Any:
        """What the editor is given of an item: its first picture, or a list of all."""
        first = item.before()
        if not self._takes_several:
            return first
        return [first, *(picture.open() for picture in item.pictures[1:])]

    def _edit(
        self, editor: Edits, items: Sequence[Item], pictures: Sequence[Any]
    ) -> list[_Made | RowError]:
        seeds = [sample_seed(self._seed, item.id, "evaluate") for item in items]
        instructions = [item.full_instruction for item in items]
        edited = list(editor.edit(pictures, instructions, seeds))
        if len(edited) != len(items):
            raise ValueError(f"{len(edited)} pictures for {len(items)} instructions")
        return [_made(*each) for each in zip(edited, instructions, strict=True)]

    def _row(self, item: Item, made: _Made | RowError, seconds: float) -> Edited:
        num_unseen = 0 if self._takes_several else max(0, len(item.pictures) - 1)
        if isinstance(made, RowError):
            detail = _storable(made.detail)
            return Edited(item.id, None, seconds, _storable(made.reason), detail, num_unseen)
        return Edited(item.id, made.image, seconds, num_unseen=num_unseen, revised=made.revised)


def _of_item(editor: ByItem, benchmark: Benchmark, item: Item) -> Edited:
    try:
        return Edited(item.id, images.encode_png(editor.picture(benchmark, item)))
    except RowError as error:
        return Edited(item.id, None, 0.0, error.reason, error.detail)


def _made(picture: Any, instruction: str) -> _Made | RowError:
    """An editor's picture as it is kept, in whatever mode it was made."""
    if isinstance(picture, RowError):
        return picture
    if not isinstance(picture, PIL.Image.Image):
        detail = f"expected a picture of PIL, got {type(picture).__name__}"
        return RowError("editor_failed", detail)
    if 0 in picture.size:
        detail = f"expected a picture, got one of {picture.width} x {picture.height} pixels"
        return RowError("editor_failed", detail)
    try:
        with silence:
            image = images.encode_png(images.pixels(picture, f"its picture (mode {picture.mode})"))
    except RowError as error:
        return RowError("editor_failed", f"{error.detail}; expected RGB of 8 bits")
    revised = str(picture.info.get(REVISED) or instruction).strip()
    return _Made(image, None if revised == instruction.strip() else _storable(revised))


def _has_gone_well_beside(path: Place) -> bool:
    """Whether a chunk of the same editor has a picture, whoever has edited it."""
    for other in chunk_files(path.parent):
        with undamaged(other, REMEDY):
            reasons = parquet(other).read(columns=["reason"])["reason"]
        if reasons.null_count:
            return True
    return False


def _storable(text: str) -> str:
    """An editor's text, which may be of any length and hold half a character."""
    return text[:_MAX_LETTERS].encode("utf-8", "replace").decode()


def _in_time(
    action: Callable[[], _Result], seconds: float, at_end: Callable[[], None]
) -> _Result | BaseException:
    """The action's result or what it raised; if neither comes in time the process ends.

    In a thread of its own: a `SystemExit` of the editor's is not one of this process, whose own
    arrives here. A thread cannot be ended.

    Raises:
        RunError, UserError: the action did.
    """
    outcomes: list[_Result | BaseException] = []

    def run() -> None:
        try:
            outcomes.append(action())
        except BaseException as error:  # noqa: BLE001  an editor may raise anything
            outcomes.append(error)

    thread = threading.Thread(target=run, daemon=True, name="reasonray-edits")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        at_end()
        os._exit(1)
    [outcome] = outcomes
    if isinstance(outcome, RunError | UserError):
        raise outcome
    return outcome

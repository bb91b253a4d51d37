"""What every stage is: a name, a contract, `process` for the rows that concern it.

`Stage.__call__` does what all stages need: rejected rows and rows of other parts pass untouched,
a row that raises is rejected alone and its batch-mates are done again without it, a batch that does
not fit into the memory is halved, and later ones are cut to the size that fitted.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from reasonray.core.errors import RowError, RunError
from reasonray.core.memory import free_memory, is_out_of_memory
from reasonray.core.record import PARTS, Model, Part, Prompt, Row, is_rejected, reject

log = logging.getLogger(__name__)


class Stage:
    """One step of the pipeline. Subclasses load in `__init__` and compute in `process`.

    Attributes:
        name: as in the recipe and in rejections.
        parts: the parts whose rows it processes.
        reads: field (or `scores.field`) -> what it holds. Of each of its parts the plan or an
            earlier stage writes it, which is checked before a run; id and part are always there.
        may_read: likewise, where an earlier stage of only some of its parts writes it.
        writes: likewise.
        may_write: likewise, of some rows only; a later stage finds it by `may_read`.
        rejects: reason code -> one sentence; `error` (an unexpected exception) is implied.
        models, prompts: what took part; copied into each processed row's provenance.
        advance: called with the number of rows that a stage has finished within a batch, where it
            finishes them one by one; may be called from any thread.
        spent: called with the tokens that a language model has read and written; likewise.
    """

    name: ClassVar[str]
    parts: ClassVar[tuple[Part, ...]] = PARTS
    reads: ClassVar[Mapping[str, str]] = {}
    may_read: ClassVar[Mapping[str, str]] = {}
    writes: ClassVar[Mapping[str, str]] = {}
    may_write: ClassVar[Mapping[str, str]] = {}
    rejects: ClassVar[Mapping[str, str]] = {}
    models: Sequence[Model] = ()
    prompts: Sequence[Prompt] = ()
    notices: Sequence[str] = ()
    """Sentences for a person on how it works here; grows while it works."""
    advance: Callable[[int], None] = staticmethod(lambda num_rows: None)
    spent: Callable[[int, int], None] = staticmethod(lambda num_read, num_written: None)
    max_rows: int | None = None
    """Rows that fitted into the memory together, once more did not."""

    def process(self, rows: list[Row]) -> None:
        """Work on the rows, in place; `record.reject` (or raise `RowError`) for a bad one."""
        raise NotImplementedError

    def __call__(self, rows: list[Row]) -> list[Row]:
        """The same rows in the same order, processed or rejected.

        Raises:
            RunError: something outside the rows fails; nothing is rejected for it.
        """
        concerned = [i for i, row in enumerate(rows) if self.concerns(row)]
        if not concerned:
            return list(rows)
        done = dict(zip(concerned, self._in_memory([rows[i] for i in concerned]), strict=True))
        return [done.get(i, row) for i, row in enumerate(rows)]

    def concerns(self, row: Row) -> bool:
        """Whether this stage has work on the row."""
        return row["part"] in self.parts and not is_rejected(row)

    def _in_memory(self, rows: list[Row]) -> list[Row]:
        """All rows, as many at once as fit into the memory."""
        before = self.max_rows
        done: list[Row] = []
        while len(done) < len(rows):
            batch = rows[len(done) :][: self.max_rows]
            outcome = self._attempt(batch)
            if isinstance(outcome, _OutOfMemory):
                free_memory()
                self.max_rows = len(batch) // 2
                if not self.max_rows:
                    raise RunError(
                        f"stage {self.name}: not enough memory for one row ({outcome.detail}); "
                        "give its pool a larger GPU or machine, fewer actors, or a smaller model"
                    )
            else:
                done += outcome
        if self.max_rows != before:
            log.warning(
                "stage %s: not enough memory for a whole batch; from now on %d rows at once "
                "(batch_size of its pool asks for more)",
                self.name,
                self.max_rows,
            )
        return done

    def _attempt(self, rows: list[Row]) -> "list[Row] | _OutOfMemory":
        outcome = self._once(rows)
        if isinstance(outcome, list | _OutOfMemory):
            return outcome
        if len(rows) == 1:
            failed = rows[0].copy()
            reject(failed, self.name, outcome.reason, outcome.detail)
            return [failed]
        done: list[Row] = []
        for row in rows:
            alone = self._attempt([row])
            if isinstance(alone, _OutOfMemory):
                return alone
            done += alone
        return done

    def _once(self, rows: list[Row]) -> "list[Row] | _OutOfMemory | _Failure":
        """Never an exception: its traceback would keep everything alive that the batch needed."""
        # Shallow copies: a failed attempt must leave nothing behind in the caller's rows.
        copies: list[Row] = [row.copy() for row in rows]
        try:
            self.process(copies)
        except RunError:
            raise
        except RowError as error:
            return _Failure(error.reason, error.detail)
        except Exception as error:  # noqa: BLE001  the row is rejected with it
            if is_out_of_memory(error):
                return _OutOfMemory((str(error) or type(error).__name__).splitlines()[0])
            return _Failure("error", f"{type(error).__name__}: {error}")
        for row in copies:
            self._sign(row)
        return copies

    def _sign(self, row: Row) -> None:
        if not self.models and not self.prompts:
            return
        provenance = row.get("provenance") or {}
        row["provenance"] = {
            **provenance,
            "models": [*provenance.get("models", []), *self.models],
            "prompts": [*provenance.get("prompts", []), *self.prompts],
        }


@dataclass(frozen=True)
class _OutOfMemory:
    """A batch was too large; `detail` is the allocator's first line."""

    detail: str


@dataclass(frozen=True)
class _Failure:
    """A batch failed for another reason, which is a row's own if it stood alone."""

    reason: str
    detail: str

"""What every stage is: a name, a contract, `process` for the rows that concern it.

`Stage.__call__` does what all stages need: rejected rows and rows of other parts pass untouched,
a row that raises is rejected alone and its batch-mates are done again without it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from reasonray.core.errors import RowError, RunError
from reasonray.core.record import PARTS, Model, Part, Prompt, Row, is_rejected, reject


class Stage:
    """One step of the pipeline. Subclasses load in `__init__` and compute in `process`.

    Attributes:
        name: as in the recipe and in rejections.
        parts: the parts whose rows it processes.
        reads: field (or `scores.field`) -> what it holds. Of each of its parts the plan or an
            earlier stage writes it, which is checked before a run; id and part are always there.
        may_read: likewise, where an earlier stage of only some of its parts writes it.
        writes: likewise.
        rejects: reason code -> one sentence; `error` (an unexpected exception) is implied.
        models, prompts: what took part; copied into each processed row's provenance.
        advance: called with the number of rows that a stage has finished within a batch, where it
            finishes them one by one; may be called from any thread.
    """

    name: ClassVar[str]
    parts: ClassVar[tuple[Part, ...]] = PARTS
    reads: ClassVar[Mapping[str, str]] = {}
    may_read: ClassVar[Mapping[str, str]] = {}
    writes: ClassVar[Mapping[str, str]] = {}
    rejects: ClassVar[Mapping[str, str]] = {}
    models: Sequence[Model] = ()
    prompts: Sequence[Prompt] = ()
    advance: Callable[[int], None] = staticmethod(lambda num_rows: None)

    def process(self, rows: list[Row]) -> None:
        """Work on the rows, in place; `record.reject` (or raise `RowError`) for a bad one."""
        raise NotImplementedError

    def __call__(self, rows: list[Row]) -> list[Row]:
        """The same rows in the same order, processed or rejected.

        Raises:
            RunError: something outside the rows fails; nothing is rejected for it.
        """
        concerned = [i for i, row in enumerate(rows) if self.concerns(row)]
        done = dict(zip(concerned, self._attempt([rows[i] for i in concerned]), strict=True))
        return [done.get(i, row) for i, row in enumerate(rows)]

    def concerns(self, row: Row) -> bool:
        """Whether this stage has work on the row."""
        return row["part"] in self.parts and not is_rejected(row)

    def _attempt(self, rows: list[Row]) -> list[Row]:
        # Shallow copies: a failed attempt must leave nothing behind in the caller's rows.
        copies: list[Row] = [row.copy() for row in rows]
        if not copies:
            return copies
        try:
            self.process(copies)
        except RunError:
            raise
        except Exception as error:
            if len(rows) == 1 and _is_out_of_memory(error):
                raise RunError(
                    f"stage {self.name}: not enough memory for one row "
                    f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); give "
                    "its pool a larger GPU or machine, fewer actors, or a smaller model"
                ) from error
            if len(rows) > 1:
                return [done for row in rows for done in self._attempt([row])]
            failed = rows[0].copy()
            if isinstance(error, RowError):
                reject(failed, self.name, error.reason, error.detail)
            else:
                reject(failed, self.name, "error", f"{type(error).__name__}: {error}")
            return [failed]
        for row in copies:
            self._sign(row)
        return copies

    def _sign(self, row: Row) -> None:
        provenance = row.get("provenance") or {}
        row["provenance"] = {
            **provenance,
            "models": [*provenance.get("models", []), *self.models],
            "prompts": [*provenance.get("prompts", []), *self.prompts],
        }


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # not imported for a stage that does without
    return isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    )

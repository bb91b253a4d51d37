"""What runs inside one actor: consecutive stages on batches of rows, counted and watched.

A batch comes in as Arrow and leaves as Arrow, one to one. Before a stage begins, the ids that it
has work on are noted in a journal outside the process; a process that is born again finds there
what killed its forerunner, runs those rows one at a time, and rejects one that killed twice alone.
Knows nothing of Ray.
"""

import dataclasses
import functools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from reasonray.core import in_hand
from reasonray.core.errors import ReasonrayError, RunError
from reasonray.core.extras import explained
from reasonray.core.place import Place
from reasonray.core.recipe import Recipe
from reasonray.core.record import Row, is_rejected, reject, to_rows, to_table
from reasonray.core.sections import PoolConfig
from reasonray.core.version import __version__
from reasonray.dataset.shards import image_bytes
from reasonray.generation.counts import Counts, PoolCounts, StageCounts
from reasonray.generation.effort import UNMETERED, Effort, Meter
from reasonray.generation.journal import Journal, Loss, losses_of, num_loading_losses
from reasonray.generation.notes import Notes
from reasonray.stages.alike import Failure, FailuresAlike, manner
from reasonray.stages.stage import Stage

Build = Callable[[str, Recipe, float | None], Stage]
"""Makes the stage of a name; the number is the divergence threshold of the rank form."""

MAX_LOSSES = 2
"""A row in hand so often, alone, when the process ended and its machine did not, is not begun
again; nor is a stage loaded again at whose loading that happened."""


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """What every actor of one pool is made from.

    Attributes:
        config: its stages and settings.
        recipe: of the run.
        build: makes a stage.
        divergence_threshold: of the rank form, if it is in use.
        notes: where journals and counts are kept, outside the process.
        work: where the session's rows go; a folder must be seen from all machines.
        is_first: its batches are the plan's rows.
        is_last: its batches are published.
        num_calls: batches in work at once, each in a thread of its own.
    """

    config: PoolConfig
    recipe: Recipe
    build: Build
    divergence_threshold: float | None
    notes: Notes
    work: Place
    is_first: bool
    is_last: bool
    num_calls: int = 1


class Pool:
    """One process of a pool.

    An error while loading is kept and raised by the first call: an exception in a constructor
    is retried or reworded on its way, one in a call ends the run as it is.
    """

    def __init__(self, spec: PoolSpec, process_id: str, meter: Meter = UNMETERED) -> None:
        """Load the stages.

        Args:
            spec: the pool.
            process_id: the same for a process that takes over from one that died.
            meter: is told of what is done, beside the run.
        """
        self.spec, self._meter = spec, meter
        self._recipe_hash = spec.recipe.hash()
        self._failure: Exception | None = None
        self.stages: list[Stage] = []
        self._every_journal: list[Journal] = []
        self._journals: queue.SimpleQueue[Journal] = queue.SimpleQueue()
        self._gathering = threading.Lock()
        self._errors: dict[str, FailuresAlike] = {}
        try:
            self._load(process_id)
        except Exception as error:  # noqa: BLE001  raised by the first call
            self._failure = error
        # Loading is neither.
        self._effort = Effort()
        self._window = PoolCounts()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Process one batch.

        Args:
            table: the plan's columns in the first pool, `WORKING_SCHEMA` after it.

        Returns:
            `WORKING_SCHEMA`, after the last pool with `status`, accepted or rejected, and
            `image_bytes`, by which shards are cut.

        Raises:
            ReasonrayError: loading failed, or something outside the rows does.
        """
        result = to_table(self.process(to_rows(table)))
        if self.spec.is_last:
            is_accepted = pc.is_null(result["stage"])
            status = pc.if_else(is_accepted, pa.scalar("accepted"), pa.scalar("rejected"))
            result = result.append_column("status", status)
            result = result.append_column("image_bytes", pa.array(image_bytes(result)))
        return result

    def process(self, rows: list[Row]) -> list[Row]:
        """The rows after all stages, before they are packed.

        Raises:
            ReasonrayError: as for a batch.
        """
        if self._failure is not None:
            raise self._failure
        if self.spec.is_first:
            for row in rows:
                self._begin(row)
        with self._effort.batch(), in_hand.batch():
            losses = losses_of(self.spec.notes, self._every_journal)
            if any(self._is_suspect(row, losses) for row in rows):
                rows = [done for row in rows for done in self._alone(row, losses)]
            else:
                journal = self._journals.get()
                try:
                    rows = self._run(rows, journal)
                finally:
                    self._journals.put(journal)
        self._note_effort()
        return rows

    def tick(self) -> None:
        """Called now and then, from any thread: time passes also while no row comes or goes."""
        if self._failure is not None:
            return
        self._note_effort()
        seconds = self._window.busy + self._window.idle
        self._meter.busy(self._window.busy / max(seconds, 1e-9))
        self._window = PoolCounts()

    def _note_effort(self) -> None:
        busy, idle = self._effort.taken()
        self._window.add(PoolCounts(busy, idle))
        self._counts.spend(busy, idle)
        self._counts.save()

    def _load(self, process_id: str) -> None:
        config, work = self.spec.config, self.spec.work
        if isinstance(work, Path) and not work.is_dir():
            raise RunError(
                f"output {work.parents[2]}: not to be seen from machine {os.uname().nodename}; on "
                "a cluster it must lie on storage that all nodes mount, or on an object store"
            )
        # Read by OpenMP when the first library with it is loaded, which the stages do.
        os.environ["OMP_NUM_THREADS"] = str(config.num_threads)
        journals = self._every_journal = [
            Journal(self.spec.notes, f"{process_id}.{number}")
            for number in range(self.spec.num_calls)
        ]
        self._counts = Counts(self.spec.notes, process_id, config.stages)
        for name in config.stages:
            self._refuse_to_load(name)
            journals[0].note(loading=name)
            try:
                with explained():
                    stage = self.spec.build(name, self.spec.recipe, self.spec.divergence_threshold)
            except ReasonrayError:
                raise
            except Exception as error:
                raise RunError(
                    f"stage {name}: could not be loaded: {type(error).__name__}: {error}"
                ) from error
            journals[0].clear()
            self._add(stage)
        for journal in journals:
            self._journals.put(journal)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(config.num_threads)

    def _add(self, stage: Stage) -> None:
        def advance(num_rows: int) -> None:
            self._counts.add(stage.name, StageCounts(finished=num_rows))

        stage.advance = advance
        stage.spent = functools.partial(self._meter.tokens, stage.name)
        self.stages.append(stage)
        self._errors[stage.name] = FailuresAlike(
            f"stage {stage.name}: the work on", "The models and the recipe may not fit", few=5
        )

    def _refuse_to_load(self, name: str) -> None:
        num_losses = num_loading_losses(self.spec.notes, self._every_journal, name)
        if num_losses >= MAX_LOSSES:
            raise RunError(
                f"stage {name}: its process ended {num_losses} times while loading, most likely "
                "for want of memory; give the pool fewer actors or a smaller model"
            )

    def _begin(self, row: Row) -> None:
        row["provenance"] = {
            "reasonray": __version__,
            "recipe_hash": self._recipe_hash,
            "seed": self.spec.recipe.seed,
            "variation": row.get("variation") or 0,
            "models": [],
            "prompts": [],
        }

    def _is_suspect(self, row: Row, losses: dict[str, Loss]) -> bool:
        """Whether it is to be begun alone, as it may be what ends the process.

        Where calls wait for a server side by side, one after the other is dear, and a lost machine
        by far the likelier cause: there a second loss is needed.
        """
        loss = losses.get(row["id"])
        return loss is not None and (self.spec.num_calls == 1 or loss.num >= MAX_LOSSES)

    def _alone(self, row: Row, losses: dict[str, Loss]) -> list[Row]:
        loss = losses.get(row["id"])
        if loss and loss.num_alone >= MAX_LOSSES and not is_rejected(row):
            detail = f"the process ended {loss.num} times while it had this row in hand"
            reject(row, loss.stage, "crashed", detail)
            self._counts.add(loss.stage, StageCounts(rejected=1))
            self._meter.rows(loss.stage, 0, 1, 0.0)
        with self._gathering:
            # With all journals in hand there is no other call in work.
            journals = [self._journals.get() for _ in range(self.spec.num_calls)]
        try:
            return self._run([row], journals[0], alone=True)
        finally:
            for journal in journals:
                self._journals.put(journal)

    def _run(self, rows: list[Row], journal: Journal, *, alone: bool = False) -> list[Row]:
        for stage in self.stages:
            rows = self._through(stage, rows, journal, alone=alone)
        journal.clear()
        return rows

    def _through(
        self, stage: Stage, rows: list[Row], journal: Journal, *, alone: bool
    ) -> list[Row]:
        """The rows after one stage, counted; what all raise alike stops the run.

        Raises:
            ReasonrayError: the stage's, or the first rows have all failed with one exception.
        """
        concerned = [stage.concerns(row) for row in rows]
        num_concerned = sum(concerned)
        if num_concerned:
            ids = [
                row["id"] for row, is_concerned in zip(rows, concerned, strict=True) if is_concerned
            ]
            alone = alone or (num_concerned == 1 and self.spec.num_calls == 1)
            journal.note(stage=stage.name, rows=ids, alone=alone)
        self._counts.add(stage.name, StageCounts(begun=num_concerned))
        errors = self._errors[stage.name]
        start = time.perf_counter()
        num_rejected = sum(map(is_rejected, rows))
        with errors.begun(num_concerned):
            rows = stage(rows)
        # Calls that wait side by side share the actor's time.
        seconds = (time.perf_counter() - start) / self.spec.num_calls if num_concerned else 0.0
        details = [
            row["detail"] or ""
            for row, was_concerned in zip(rows, concerned, strict=True)
            if was_concerned and row.get("reason") == "error"
        ]
        failures = [Failure(manner(detail), detail) for detail in details]
        errors.settle(num_concerned, num_concerned - len(failures), failures)
        num_rejected = sum(map(is_rejected, rows)) - num_rejected
        self._meter.rows(stage.name, num_concerned - num_rejected, num_rejected, seconds)
        self._counts.add(
            stage.name,
            StageCounts(
                passed=len(rows),
                worked=num_concerned,
                rejected=num_rejected,
                seconds=seconds,
                max_rows=stage.max_rows or 0,
                notices=list(stage.notices),
            ),
        )
        return rows

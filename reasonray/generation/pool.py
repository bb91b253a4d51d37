"""What runs inside one actor: consecutive stages on batches of rows, counted and watched.

A batch comes in as Arrow and leaves as Arrow, one to one. Before a batch is begun its ids are
noted in a journal outside the process; a process that is born again finds there what killed its
forerunner, runs those rows one at a time, and at the third sight rejects the one that kills.
Knows nothing of Ray.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from reasonray.core import in_hand
from reasonray.core.errors import ReasonrayError, RunError
from reasonray.core.extras import explained
from reasonray.core.recipe import Recipe
from reasonray.core.record import Row, is_rejected, reject, to_rows, to_table
from reasonray.core.sections import PoolConfig
from reasonray.core.version import __version__
from reasonray.generation.counts import Counts, StageCounts
from reasonray.generation.journal import Journal, Loss
from reasonray.stages.stage import Stage

Build = Callable[[str, Recipe, float | None], Stage]
"""Makes the stage of a name; the number is the divergence threshold of the rank form."""

MAX_LOSSES = 2
"""A row in hand so often when the process ended is not begun again."""


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """What every actor of one pool is made from.

    Attributes:
        config: its stages and settings.
        recipe: of the run.
        build: makes a stage.
        divergence_threshold: of the rank form, if it is in use.
        attempts, progress: folders on storage that all nodes mount, for the journals and counts.
        is_first: its batches are the plan's rows.
        is_last: its batches are published.
    """

    config: PoolConfig
    recipe: Recipe
    build: Build
    divergence_threshold: float | None
    attempts: Path
    progress: Path
    is_first: bool
    is_last: bool


class Pool:
    """One process of a pool.

    An error while loading is kept and raised by the first call: an exception in a constructor
    is retried or reworded on its way, one in a call ends the run as it is.
    """

    def __init__(self, spec: PoolSpec, process_id: str) -> None:
        """Load the stages.

        Args:
            spec: the pool.
            process_id: the same for a process that takes over from one that died.
        """
        self.spec = spec
        self._failure: Exception | None = None
        self.stages: list[Stage] = []
        self._losses: dict[str, Loss] = {}
        try:
            self._load(process_id)
        except Exception as error:  # noqa: BLE001  raised by the first call
            self._failure = error

    def __call__(self, table: pa.Table) -> pa.Table:
        """Process one batch.

        Args:
            table: the plan's columns in the first pool, `WORKING_SCHEMA` after it.

        Returns:
            `WORKING_SCHEMA`, after the last pool with `status`, accepted or rejected.

        Raises:
            ReasonrayError: loading failed, or something outside the rows does.
        """
        rows = self.process(to_rows(table))
        result = to_table(rows)
        if self.spec.is_last:
            status = ["rejected" if is_rejected(row) else "accepted" for row in rows]
            result = result.append_column("status", pa.array(status, pa.string()))
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
        with in_hand.batch():
            if any(row["id"] in self._losses for row in rows):
                rows = [done for row in rows for done in self._alone(row)]
            else:
                rows = self._run(rows)
        self._counts.save()
        return rows

    def _load(self, process_id: str) -> None:
        config = self.spec.config
        if not self.spec.attempts.is_dir():
            raise RunError(
                f"output {self.spec.attempts.parents[2]}: not to be seen from machine "
                f"{os.uname().nodename}; on a cluster it must lie on storage that all nodes mount"
            )
        # Read by OpenMP when the first library with it is loaded, which the stages do.
        os.environ["OMP_NUM_THREADS"] = str(config.num_threads)
        self._journal = Journal(self.spec.attempts / f"{process_id}.journal")
        self._losses = self._journal.losses()
        self._counts = Counts(self.spec.progress / f"{process_id}.json", config.stages)
        for name in config.stages:
            self._refuse_to_load(name)
            self._journal.note(loading=name)
            try:
                with explained():
                    stage = self.spec.build(name, self.spec.recipe, self.spec.divergence_threshold)
                self.stages.append(stage)
            except ReasonrayError:
                raise
            except Exception as error:
                raise RunError(
                    f"stage {name}: could not be loaded: {type(error).__name__}: {error}"
                ) from error
            self._journal.clear()
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(config.num_threads)

    def _refuse_to_load(self, name: str) -> None:
        num_losses = self._journal.num_loading_losses(name)
        if num_losses >= MAX_LOSSES:
            raise RunError(
                f"stage {name}: its process ended {num_losses} times while loading, most likely "
                "for want of memory; give the pool fewer actors or a smaller model"
            )

    def _begin(self, row: Row) -> None:
        row["provenance"] = {
            "reasonray": __version__,
            "recipe_hash": self.spec.recipe.hash(),
            "seed": self.spec.recipe.seed,
            "variation": row.get("variation") or 0,
            "models": [],
            "prompts": [],
        }

    def _alone(self, row: Row) -> list[Row]:
        loss = self._losses.get(row["id"])
        if loss and loss.num_alone and loss.num >= MAX_LOSSES:
            stage = loss.stage or self.spec.config.stages[0]
            detail = f"the process ended {loss.num} times while it had this row in hand"
            reject(row, stage, "crashed", detail)
            self._counts.add(stage, StageCounts(rejected=1))
        return self._run([row])

    def _run(self, rows: list[Row]) -> list[Row]:
        self._journal.note(rows=[row["id"] for row in rows if not is_rejected(row)])
        for stage in self.stages:
            self._journal.note(stage=stage.name)
            num_concerned = sum(map(stage.concerns, rows))
            start = time.perf_counter()
            num_rejected = sum(map(is_rejected, rows))
            rows = stage(rows)
            counts = StageCounts(
                passed=len(rows),
                worked=num_concerned,
                rejected=sum(map(is_rejected, rows)) - num_rejected,
                seconds=time.perf_counter() - start if num_concerned else 0.0,
            )
            self._counts.add(stage.name, counts)
        self._journal.clear()
        return rows

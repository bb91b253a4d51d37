"""What runs inside one actor: consecutive stages on batches of rows, counted and watched.

A batch comes in as Arrow and leaves as Arrow, one to one. Before a batch is begun its ids are
noted in a journal outside the process; a process that is born again finds there what killed its
forerunner, runs those rows one at a time, and at the third sight rejects the one that kills.
Knows nothing of Ray.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonray.core.version import __version__
from reasonray.errors import ReasonrayError, RunError
from reasonray.recipe import PoolConfig, Recipe
from reasonray.record import Row, is_rejected, reject, to_rows, to_table
from reasonray.stages.stage import Stage

Build = Callable[[str, Recipe, float | None], Stage]
"""Makes the stage of a name; the number is the divergence threshold of the rank form."""

MAX_LOSSES = 2
"""A row in hand so often when the process ended is not begun again."""


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """What every actor of one pool is told."""

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
        self._stages: list[Stage] = []
        self._losses: dict[str, _Loss] = {}
        try:
            self._load(process_id)
        except Exception as error:
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
                self._stages.append(
                    self.spec.build(name, self.spec.recipe, self.spec.divergence_threshold)
                )
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
            self._counts.add(stage, rejected=1)
        return self._run([row])

    def _run(self, rows: list[Row]) -> list[Row]:
        self._journal.note(rows=[row["id"] for row in rows if not is_rejected(row)])
        for stage in self._stages:
            self._journal.note(stage=stage.name)
            concerned = sum(map(stage.concerns, rows))
            start = time.perf_counter()
            num_rejected = sum(map(is_rejected, rows))
            rows = stage(rows)
            self._counts.add(
                stage.name,
                passed=len(rows),
                worked=concerned,
                rejected=sum(map(is_rejected, rows)) - num_rejected,
                seconds=time.perf_counter() - start if concerned else 0.0,
            )
        self._journal.clear()
        return rows


@dataclasses.dataclass
class _Loss:
    num: int
    num_alone: int
    stage: str


class Journal:
    """What a process has in hand, kept outside it: a few short lines, cut off after each batch.

    Neither flushed to the disk nor atomic: it has to outlive its process, not the machine.
    """

    def __init__(self, path: Path) -> None:
        """Open it; what a forerunner had in hand becomes a loss."""
        lines = path.read_text().splitlines() if path.exists() else []
        # The last line may be cut off where the process ended.
        notes = [json.loads(line) for line in lines if line.endswith("}")]
        self._lost: list[dict[str, Any]] = [note for note in notes if "lost" in note]
        in_hand: dict[str, Any] = {}
        for note in notes:
            if "lost" not in note:
                in_hand.update(note)
        if in_hand:
            self._lost.append({"lost": in_hand})
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._descriptor, 0)
        for note in self._lost:
            self.note(**note)
        self._kept = os.fstat(self._descriptor).st_size

    def note(self, **content: Any) -> None:
        """Add a line."""
        os.write(self._descriptor, json.dumps(content).encode() + b"\n")

    def clear(self) -> None:
        """Nothing is in hand any more."""
        os.ftruncate(self._descriptor, self._kept)

    def losses(self) -> dict[str, _Loss]:
        """Row id -> how often it was in hand when a process ended, and in which stage last."""
        losses: dict[str, _Loss] = {}
        for note in self._lost:
            ids = note["lost"].get("rows", [])
            for row_id in ids:
                loss = losses.setdefault(row_id, _Loss(0, 0, ""))
                loss.num += 1
                loss.num_alone += len(ids) == 1
                loss.stage = note["lost"].get("stage", loss.stage)
        return losses

    def num_loading_losses(self, stage: str) -> int:
        """How often a process ended while it loaded a stage."""
        return sum(note["lost"].get("loading") == stage for note in self._lost)


class Counts:
    """Rows and seconds of each stage in one process, in a file that the driver reads."""

    def __init__(self, path: Path, stages: list[str]) -> None:
        self._path = path
        self._stages = {
            stage: {"passed": 0, "worked": 0, "rejected": 0, "seconds": 0.0} for stage in stages
        }
        if path.exists():  # of the process whose place this one takes
            self._stages.update(json.loads(path.read_text()))

    def add(self, stage: str, **amounts: float) -> None:
        """Add to a stage's counts."""
        for name, amount in amounts.items():
            self._stages[stage][name] += amount

    def save(self) -> None:
        """Show the counts to the driver."""
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self._stages))
        temporary.replace(self._path)

"""Rows and seconds of each stage: noted by each process, added up and kept by the driver."""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from reasonray.core.place import Place, files
from reasonray.core.session import COUNTS
from reasonray.core.writing import write_file
from reasonray.dataset.manifest import PoolTiming, RayJob, StageTiming
from reasonray.generation.notes import Notes

SAVE_EVERY_S = 0.5
"""A process with many calls at once does not note its counts more often."""

_NOTED = "counts/"


@dataclasses.dataclass
class StageCounts:
    """What happened in one stage; its fields are the keys in a process's note.

    Attributes:
        passed: rows that went through, whether it had work on them or not.
        worked: rows that it had work on.
        rejected: rows that it rejected.
        seconds: of work, summed over processes.
        begun: rows with work that a process has taken in hand.
        finished: of these, those that the stage is done with, be their batch still in work.
        max_rows: that fitted into the memory together, where a batch did not; 0: all did.
        notices: sentences for a person, each once; of its language model's server, say.
    """

    passed: int = 0
    worked: int = 0
    rejected: int = 0
    seconds: float = 0.0
    begun: int = 0
    finished: int = 0
    max_rows: int = 0
    notices: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: "StageCounts") -> None:
        """Add what another process or run counted; of `max_rows` the least counts."""
        least = min(filter(None, (self.max_rows, other.max_rows)), default=0)
        for name, amount in vars(other).items():
            setattr(self, name, getattr(self, name) + amount)
        self.max_rows = least
        self.notices = list(dict.fromkeys(self.notices))


@dataclasses.dataclass
class PoolCounts:
    """How a pool's processes have spent their time, from when their models were loaded.

    Attributes:
        busy: seconds with rows in hand, summed over processes.
        idle: seconds in which a process waited for rows.
    """

    busy: float = 0.0
    idle: float = 0.0

    def add(self, other: "PoolCounts") -> None:
        """Add what another process or session counted."""
        self.busy += other.busy
        self.idle += other.idle


class Counts:
    """The counts of one process, noted for the driver; for many threads."""

    def __init__(self, notes: Notes, process_id: str, stages: list[str]) -> None:
        self._notes, self._key = notes, f"{_NOTED}{process_id}"
        self._lock = threading.Lock()
        self._saved = 0.0
        self._name = "+".join(stages)
        self._pool = PoolCounts()
        self._stages = {stage: StageCounts() for stage in stages}
        before = notes.read(self._key)
        if before is not None:  # of the process whose place this one takes
            content = json.loads(before)
            self._pool.add(PoolCounts(**content["pool"]))
            self._stages.update(_read(content["stages"]))
            for counts in self._stages.values():
                # What it had in hand is begun again.
                counts.begun = counts.finished = counts.worked

    def add(self, stage: str, counts: StageCounts) -> None:
        """Add to a stage's counts; the driver sees it within a second of work."""
        with self._lock:
            self._stages[stage].add(counts)
            if time.monotonic() - self._saved >= SAVE_EVERY_S:
                self._save()

    def spend(self, busy: float, idle: float) -> None:
        """Add seconds in which the process had rows in hand, and in which it had none."""
        with self._lock:
            self._pool.add(PoolCounts(busy, idle))

    def save(self) -> None:
        """Show the counts to the driver."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        content = {"name": self._name, "pool": self._pool, "stages": self._stages}
        self._notes.write(self._key, json.dumps(content, default=vars).encode())
        self._saved = time.monotonic()


def read_counts(notes: Notes) -> dict[str, StageCounts]:
    """Counts of all processes of one run, by stage."""
    totals: dict[str, StageCounts] = {}
    for content in notes.every(_NOTED).values():
        for stage, counts in _read(json.loads(content)["stages"]).items():
            totals.setdefault(stage, StageCounts()).add(counts)
    return totals


def read_pools(notes: Notes) -> dict[str, PoolCounts]:
    """Times of all processes of one run, by pool, whose name is its stages'."""
    totals: dict[str, PoolCounts] = {}
    for note in notes.every(_NOTED).values():
        content = json.loads(note)
        totals.setdefault(content["name"], PoolCounts()).add(PoolCounts(**content["pool"]))
    return totals


def keep_counts(
    path: Place,
    counts: Mapping[str, StageCounts],
    seconds: float,
    pools: Mapping[str, PoolCounts] | None = None,
    job: RayJob | None = None,
) -> None:
    """Keep what a session has counted where it outlives the cluster.

    Args:
        path: `Session.counts_file`.
        counts: by stage.
        seconds: of wall time so far.
        pools: by pool.
        job: that the session is.
    """
    content = {
        "seconds": seconds,
        "stages": counts,
        "pools": pools or {},
        "job": None if job is None else job.model_dump(),
    }
    write_file(path, json.dumps(content, default=vars))


def read_timings(folder: Place) -> tuple[dict[str, StageTiming], float]:
    """Each stage's work and the wall seconds, over all sessions that worked on an output.

    Args:
        folder: `.run/sessions`.
    """
    timings = {
        stage: StageTiming.of(n.worked, n.seconds) for stage, n in _of_all_sessions(folder).items()
    }
    return timings, sum(content["seconds"] for content in _sessions(folder))


def pool_timings(folder: Place) -> dict[str, PoolTiming]:
    """Each pool's time, over all sessions that worked on an output.

    Args:
        folder: `.run/sessions`.
    """
    totals: dict[str, PoolCounts] = {}
    for content in _sessions(folder):
        for name, counts in content["pools"].items():
            totals.setdefault(name, PoolCounts()).add(PoolCounts(**counts))
    return {
        name: PoolTiming(busy_seconds=round(n.busy, 3), idle_seconds=round(n.idle, 3))
        for name, n in totals.items()
    }


def ray_jobs(folder: Place) -> list[RayJob]:
    """The jobs that worked on an output, in their order.

    Args:
        folder: `.run/sessions`.
    """
    return [RayJob(**content["job"]) for content in _sessions(folder) if content["job"]]


def run_warnings(folder: Place) -> list[str]:
    """The stages' notices, and a sentence for each whose batches did not fit into the memory whole.

    Args:
        folder: `.run/sessions`.
    """
    totals = _of_all_sessions(folder)
    return all_notices(totals) + [
        f"stage {name}: there was not enough memory for a whole batch, {counts.max_rows} rows at "
        "once were worked on; a smaller batch_size of its pool does not try in vain first"
        for name, counts in totals.items()
        if counts.max_rows
    ]


def all_notices(totals: dict[str, StageCounts]) -> list[str]:
    """Those of all stages, each once: stages may share a language model."""
    return list(dict.fromkeys(notice for each in totals.values() for notice in each.notices))


def _of_all_sessions(folder: Place) -> dict[str, StageCounts]:
    totals: dict[str, StageCounts] = {}
    for content in _sessions(folder):
        for stage, counts in _read(content["stages"]).items():
            totals.setdefault(stage, StageCounts()).add(counts)
    return totals


def _sessions(folder: Place) -> Iterator[dict[str, Any]]:
    """What `keep_counts` has kept of each session."""
    for path in files(folder, COUNTS):
        # On some network file systems a replaced file is gone for a moment.
        with contextlib.suppress(FileNotFoundError, ValueError):
            yield json.loads(path.read_bytes())


def _read(content: Mapping[str, Mapping[str, Any]]) -> dict[str, StageCounts]:
    return {stage: StageCounts(**counts) for stage, counts in content.items()}

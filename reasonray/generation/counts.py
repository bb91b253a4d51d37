"""Rows and seconds of each stage: noted by each process, added up and kept by the driver."""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from reasonray.core.place import Place, files
from reasonray.core.session import COUNTS
from reasonray.core.writing import write_file
from reasonray.dataset.manifest import StageTiming
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


class Counts:
    """The counts of one process, noted for the driver; for many threads."""

    def __init__(self, notes: Notes, process_id: str, stages: list[str]) -> None:
        self._notes, self._key = notes, f"{_NOTED}{process_id}"
        self._lock = threading.Lock()
        self._saved = 0.0
        self._stages = {stage: StageCounts() for stage in stages}
        before = notes.read(self._key)
        if before is not None:  # of the process whose place this one takes
            self._stages.update(_read(json.loads(before)))
            for counts in self._stages.values():
                # What it had in hand is begun again.
                counts.begun = counts.finished = counts.worked

    def add(self, stage: str, counts: StageCounts) -> None:
        """Add to a stage's counts; the driver sees it within a second of work."""
        with self._lock:
            self._stages[stage].add(counts)
            if time.monotonic() - self._saved >= SAVE_EVERY_S:
                self._save()

    def save(self) -> None:
        """Show the counts to the driver."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        self._notes.write(self._key, json.dumps(self._stages, default=vars).encode())
        self._saved = time.monotonic()


def read_counts(notes: Notes) -> dict[str, StageCounts]:
    """Counts of all processes of one run, by stage."""
    totals: dict[str, StageCounts] = {}
    for content in notes.every(_NOTED).values():
        for stage, counts in _read(json.loads(content)).items():
            totals.setdefault(stage, StageCounts()).add(counts)
    return totals


def keep_counts(path: Place, counts: Mapping[str, StageCounts], seconds: float) -> None:
    """Keep what a session has counted where it outlives the cluster.

    Args:
        path: `Session.counts_file`.
        counts: by stage.
        seconds: of wall time so far.
    """
    write_file(path, json.dumps({"seconds": seconds, "stages": counts}, default=vars))


def read_timings(folder: Place) -> tuple[dict[str, StageTiming], float]:
    """Each stage's work and the wall seconds, over all sessions that worked on an output.

    Args:
        folder: `.run/sessions`.
    """
    totals, seconds = _of_all_sessions(folder)
    timings = {stage: StageTiming.of(n.worked, n.seconds) for stage, n in totals.items()}
    return timings, seconds


def run_warnings(folder: Place) -> list[str]:
    """The stages' notices, and a sentence for each whose batches did not fit into the memory whole.

    Args:
        folder: `.run/sessions`.
    """
    totals, _ = _of_all_sessions(folder)
    return all_notices(totals) + [
        f"stage {name}: there was not enough memory for a whole batch, {counts.max_rows} rows at "
        "once were worked on; a smaller batch_size of its pool does not try in vain first"
        for name, counts in totals.items()
        if counts.max_rows
    ]


def all_notices(totals: dict[str, StageCounts]) -> list[str]:
    """Those of all stages, each once: stages may share a language model."""
    return list(dict.fromkeys(notice for each in totals.values() for notice in each.notices))


def _of_all_sessions(folder: Place) -> tuple[dict[str, StageCounts], float]:
    totals: dict[str, StageCounts] = {}
    seconds = 0.0
    for path in files(folder, COUNTS):
        # On some network file systems a replaced file is gone for a moment.
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(path.read_bytes())
            seconds += content["seconds"]
            for stage, counts in _read(content["stages"]).items():
                totals.setdefault(stage, StageCounts()).add(counts)
    return totals, seconds


def _read(content: Mapping[str, Mapping[str, Any]]) -> dict[str, StageCounts]:
    return {stage: StageCounts(**counts) for stage, counts in content.items()}

"""Rows and seconds of each stage: kept in a file by each process, added up by the driver."""

import contextlib
import dataclasses
import json
from pathlib import Path

WALL = "wall.json"


@dataclasses.dataclass
class StageCounts:
    """What happened in one stage."""

    passed: int = 0
    """Rows that went through, whether it had work on them or not."""
    worked: int = 0
    rejected: int = 0
    seconds: float = 0.0
    """Of work, summed over processes."""


def read_counts(folder: Path) -> dict[str, StageCounts]:
    """Counts of all processes of one run, by stage."""
    totals: dict[str, StageCounts] = {}
    for path in folder.glob("*.json"):
        if path.name == WALL:
            continue
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # on some network file systems a replaced file is gone for a moment
        for stage, counts in content.items():
            total = totals.setdefault(stage, StageCounts())
            for name, amount in counts.items():
                setattr(total, name, getattr(total, name) + amount)
    return totals


def read_all(folder: Path) -> tuple[dict[str, StageCounts], float]:
    """Counts and wall seconds over all runs that worked on an output.

    Args:
        folder: `.run/progress`.
    """
    totals: dict[str, StageCounts] = {}
    seconds = 0.0
    for session in folder.iterdir():
        for stage, counts in read_counts(session).items():
            total = totals.setdefault(stage, StageCounts())
            for field in dataclasses.fields(StageCounts):
                summed = getattr(total, field.name) + getattr(counts, field.name)
                setattr(total, field.name, summed)
        with contextlib.suppress(OSError, ValueError):
            seconds += json.loads((session / WALL).read_text())
    return totals, seconds


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

"""What killed a process: noted by it outside itself, for the one that takes its place."""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Loss:
    """Of one row, over the processes that ended.

    Attributes:
        num: how often one ended with the row in hand.
        num_alone: how often with no other in the process.
        stage: the last that it was in then.
    """

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
        self._losses_end = os.fstat(self._descriptor).st_size

    def note(self, **content: Any) -> None:
        """Add a line, a JSON object of what is in hand from now on."""
        os.write(self._descriptor, json.dumps(content).encode() + b"\n")

    def clear(self) -> None:
        """Nothing is in hand any more."""
        os.ftruncate(self._descriptor, self._losses_end)

    def losses(self) -> dict[str, Loss]:
        """Row id -> how often it was in hand when a process ended, and in which stage last."""
        losses: dict[str, Loss] = {}
        for note in self._lost:
            ids = note["lost"].get("rows", [])
            for row_id in ids:
                loss = losses.setdefault(row_id, Loss(0, 0, ""))
                loss.num += 1
                loss.num_alone += bool(note["lost"].get("alone"))
                loss.stage = note["lost"].get("stage", loss.stage)
        return losses

    def num_loading_losses(self, stage: str) -> int:
        """How often a process ended while it loaded a stage."""
        return sum(note["lost"].get("loading") == stage for note in self._lost)


def losses_of(journals: Iterable[Journal]) -> dict[str, Loss]:
    """Row id -> its losses, over all journals of a process."""
    losses: dict[str, Loss] = {}
    for journal in journals:
        for row_id, loss in journal.losses().items():
            before = losses.setdefault(row_id, Loss(0, 0, ""))
            before.num += loss.num
            before.num_alone += loss.num_alone
            before.stage = loss.stage
    return losses

"""What killed a process: noted by it outside itself, for the one that takes its place."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from reasonray.generation.notes import Notes


@dataclasses.dataclass
class Loss:
    """Of one row, over the processes that ended while their machines lived on.

    Attributes:
        num: how often one ended with the row in hand.
        num_alone: how often with no other in the process.
        stage: the last that it was in then.
    """

    num: int
    num_alone: int
    stage: str


class Journal:
    """What a process has in hand, kept outside it: one short note, written again at each step.

    Attributes:
        lost: what its forerunners had in hand when they ended, and on which `node`.
    """

    def __init__(self, notes: Notes, key: str) -> None:
        """Open it; what a forerunner had in hand becomes a loss."""
        self._notes, self._key = notes, f"journal/{key}"
        content = json.loads(notes.read(self._key) or b"{}")
        self.lost: list[dict[str, Any]] = content.get("lost", [])
        if content.get("in_hand"):
            self.lost.append(content["in_hand"])
        self._in_hand: dict[str, Any] = {}
        self._write()

    def note(self, **content: Any) -> None:
        """Have this in hand from now on, and nothing else.

        Args:
            content: `rows`, their ids; `alone`, whether they are one, with no other in the
                process; the `stage` that works on them; or what is `loading`.
        """
        self._in_hand = {"node": self._notes.node, **content}
        self._write()

    def clear(self) -> None:
        """Nothing is in hand any more."""
        if self._in_hand:
            self._in_hand = {}
            self._write()

    def _write(self) -> None:
        content = {"lost": self.lost, "in_hand": self._in_hand}
        self._notes.write(self._key, json.dumps(content).encode())


def losses_of(notes: Notes, journals: Sequence[Journal]) -> dict[str, Loss]:
    """Row id -> its losses, over all journals of a process."""
    losses: dict[str, Loss] = {}
    for lost in _blamed(notes, journals):
        for row_id in lost.get("rows", []):
            loss = losses.setdefault(row_id, Loss(0, 0, ""))
            loss.num += 1
            loss.num_alone += bool(lost.get("alone"))
            loss.stage = lost.get("stage", loss.stage)
    return losses


def num_loading_losses(notes: Notes, journals: Sequence[Journal], stage: str) -> int:
    """How often a process ended while it loaded a stage, and its machine did not."""
    return sum(lost.get("loading") == stage for lost in _blamed(notes, journals))


def _blamed(notes: Notes, journals: Sequence[Journal]) -> list[dict[str, Any]]:
    """What was in hand when a process ended that cannot be laid to its machine's end.

    To be asked for anew each time: a machine's end is known a little after its processes'.
    """
    every = [lost for journal in journals for lost in journal.lost]
    living = notes.living() if every else set()
    return [lost for lost in every if lost["node"] in living]

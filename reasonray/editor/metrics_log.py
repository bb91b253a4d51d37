"""`metrics.jsonl` of a training, and the loggers beside it."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from reasonray.core.place import Place
from reasonray.core.writing import write_file
from reasonray.editor.loggers import Logger

STAGES = ("alignment", "editing")
"""Of a training, in their order."""
METRICS = "metrics.jsonl"

_TAIL_BYTES = 4096


class MetricsLog:
    """`metrics.jsonl`, a line for each step, and the loggers.

    Args:
        folder: gets the file; None, on all ranks but the first: nothing is written.
        loggers: told tag, value and step.
        before: steps of the alignment, which come before those of the editing.
        restored: the checkpoint that a training goes on from; what the file has of later steps is
            dropped, as they are done again.
    """

    def __init__(
        self,
        folder: Path | None,
        loggers: Sequence[Logger],
        before: int,
        restored: dict[str, Any] | None,
    ) -> None:
        self.folder, self.loggers, self.before = folder, loggers, before
        self.path: Path | None = None
        if folder is None:
            return
        self.path = folder / METRICS
        lines = [line for line in read_metrics(self.path) if _is_before(line, restored)]
        write_file(self.path, "".join(f"{json.dumps(line)}\n" for line in lines))

    def write(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Add a line with figures after a step, and show them in the loggers that lack them.

        Args:
            stage: one of `STAGES`.
            step: of the stage; 1 is the first, 0: before any.
            figures: their names and values.
        """
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"stage": stage, "step": step, **figures}) + "\n")
        total = step + (self.before if stage == "editing" else 0)
        for name, value in figures.items():
            tag = f"{stage}/{name}"
            for logger in self.loggers:
                if logger.last_step(tag) < total:
                    logger.scalar(tag, value, total)

    def image(self, tag: str, step: int, image: Image) -> None:
        """Show a picture after a step of the editing in the loggers that lack it."""
        for logger in self.loggers:
            if logger.last_step(tag) < step + self.before:
                logger.image(tag, image, step + self.before)

    def flush(self) -> None:
        """Have the loggers keep all so far; before a checkpoint, as none of it comes again."""
        for logger in self.loggers:
            logger.flush()

    def close(self) -> None:
        """End the loggers' runs, when the training is done."""
        for logger in self.loggers:
            logger.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, without one that a kill has cut off; none without a file."""
    return _lines(path.read_text()) if path.exists() else []


def latest(path: Place) -> dict[str, Any] | None:
    """The last line with a loss of a `metrics.jsonl` that is being written; None: there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = _lines(file.read().decode(errors="replace"))
    except FileNotFoundError:
        return None
    return next((line for line in reversed(lines) if "loss" in line), None)


def _lines(text: str) -> list[dict[str, Any]]:
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return lines


def _is_before(line: dict[str, Any], state: dict[str, Any] | None) -> bool:
    if state is None:
        return False
    place = (STAGES.index(line["stage"]), line["step"])
    return place <= (STAGES.index(state["stage"]), state["step"])

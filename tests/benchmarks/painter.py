"""How much faster the painter is at a batch of eight than one by one, on one thread.

python tests/benchmarks/painter.py [RECIPE]
"""

import sys
import time
from typing import Any

import torch

from reasonray.core.images import decode
from reasonray.core.recipe import load
from reasonray.mini.evaluation.painter import edit
from reasonray.mini.evaluation.scenes import held_out
from reasonray.models.painter import Painter

COUNT, BATCH = 16, 8


def main() -> None:
    config = load(sys.argv[1] if len(sys.argv) > 1 else "mini").stages.paint
    painter = Painter.from_config(config.model)
    if painter.unet.device.type == "cpu":
        torch.set_num_threads(1)
    rows: list[Any] = [edit(scene, i) for i, scene in enumerate(held_out(COUNT))]

    def seconds(size: int) -> float:
        started = time.perf_counter()
        for first in range(0, COUNT, size):
            part = rows[first : first + size]
            painter.paint(
                [decode(row["input_image"]) for row in part],
                [row["detection_box"] for row in part],
                [row["target_category"] for row in part],
                [row["edited_caption"] for row in part],
                list(range(first, first + len(part))),
                config,
            )
        return (time.perf_counter() - started) / COUNT

    seconds(BATCH)  # warm up
    # Alternating, and the best of each, so that other work on the machine favours neither.
    measured = [(seconds(1), seconds(BATCH)) for _ in range(3)]
    single, batched = (min(times) for times in zip(*measured, strict=True))
    print(f"one by one {single:.3f} s a picture, batch {BATCH} {batched:.3f} s: "
          f"{single / batched:.2f} times as fast")  # fmt: skip


if __name__ == "__main__":
    main()

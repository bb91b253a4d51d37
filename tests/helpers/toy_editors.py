"""Editors under test, as `python:toy_editors:NAME`, and a benchmark for them."""

import dataclasses
import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageOps

from reasonray.evaluation.benchmarks import ours

Images = Sequence[PIL.Image.Image]

SIDE = 32


@dataclasses.dataclass(frozen=True)
class Inverting:
    """Inverts; what an instruction says of itself goes wrong: fails, hangs, ends the process.

    Attributes:
        delay_s: of each picture.
    """

    delay_s: float = 0

    def edit(
        self, images: Images, instructions: Sequence[str], seeds: Sequence[int]
    ) -> list[PIL.Image.Image]:
        for instruction in instructions:
            if "fail" in instruction:
                raise ValueError("it is too hard")
            if "hang" in instruction:
                time.sleep(3600)
            if "crash" in instruction:
                os._exit(9)
        time.sleep(self.delay_s * len(images))
        return [PIL.ImageOps.invert(image) for image in images]


def inverting() -> Inverting:
    return Inverting()


def slow() -> Inverting:
    return Inverting(delay_s=0.2)


class Few:
    """Forgets the last picture."""

    def edit(
        self, images: Images, instructions: Sequence[str], seeds: Sequence[int]
    ) -> list[PIL.Image.Image]:
        return list(images)[:-1]


def few() -> Few:
    return Few()


def no_editor() -> object:
    return object()


def png(colour: tuple[int, int, int], size: tuple[int, int] = (SIDE, SIDE)) -> dict[str, Any]:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def pair(number: int, **changes: Any) -> dict[str, Any]:
    """One whose truth is the inverted input."""
    colour = (number * 7 % 256, number * 31 % 256, 40)
    return {
        "id": f"III/toy/{number:04}/0",
        "input_image": png(colour),
        "truth": png((255 - colour[0], 255 - colour[1], 255 - colour[2])),
        "input_caption": "a cat",
        "truth_caption": "a dog",
        "selected_category": "cat",
        "target_category": "dog",
        "box": [1.0, 2.0, 30.0, 31.0],
        "instructions": [
            {"kind": "direct", "text": f"Turn cat {number} into a dog"},
            {"kind": "reasoning", "text": f"Number {number} should bark"},
        ],
        "license": "CC0-1.0",
        **changes,
    }


def benchmark(folder: Path, pairs: Sequence[dict[str, Any]]) -> Path:
    ours.write(folder, pairs, {})
    return folder

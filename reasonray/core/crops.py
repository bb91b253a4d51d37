"""The part of a pair that a trainer of editors sees: over what was edited.

Many trainers take squares. The middle one of a photograph often lacks the object that was
replaced: then source and target are equal, and "do nothing" is taught for a plain instruction.
One that holds it often lacks all others, so that which is meant is not learnt: our own training
takes nearly the whole of a picture, in a few shapes (`training_size`), as "buckets" do elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from PIL.Image import Resampling

from reasonray.core.boxes import Box, area, clipped, whole
from reasonray.core.record import sample_seed

LEAST_KEPT = 0.9
"""A crop that holds less of its box is not trained on: half an object is a wrong answer."""

MAX_ZOOM = 288 / 256
"""InstructPix2Pix resizes to 256 to 288 pixels at random, and cuts 256 out of that."""

GRID = 8
"""Pixels: where it may, a crop starts on a multiple, as JPEG's blocks and a VAE's cells do."""

_CHANGED = 25 / 255
"""A pixel that changes less, in the mean of its colours, shows an encoder's noise."""
_STRAY = 0.02
"""Part of a difference that may lie beyond either side of its box."""
_COMPARED = 256
"""Pixels of the longer side at which a pair's difference is sought: enough for its place."""


MAX_ASPECT = 2
"""Longer side by the shorter, of what is trained on; of longer pictures a part."""

_STEPS = 4
"""Shapes from one aspect to the next whole one: 256 pixels go in steps of 64, which is what a UNet
of three halvings takes of a VAE of three."""


@dataclass(frozen=True)
class Crop:
    """A rectangle of a picture.

    Attributes:
        left, top, width, height: pixels; it lies within the picture.
    """

    left: int
    top: int
    width: int
    height: int

    def of(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """The rectangle of a picture, at its own size."""
        if image.size == (self.width, self.height):
            return image
        return image.crop((self.left, self.top, self.left + self.width, self.top + self.height))


def working_size(size: tuple[int, int], side: int, factor: int) -> tuple[int, int]:
    """Width and height at which a picture is edited: its own, or in its shape what the model can.

    Things are as large to the model as in its training (`training_size`); a picture that is
    longer than any there has no more pixels than the longest.

    Args:
        size: of the picture.
        side: pixels of the shorter side, at most.
        factor: both sides are multiples of it, the next smaller ones.
    """
    within = side / min(size), side * math.sqrt(MAX_ASPECT / (size[0] * size[1]))
    scale = min(1.0, *within)
    width, height = (max(factor, int(each * scale + 1e-6) // factor * factor) for each in size)
    return width, height


def training_size(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Width and height that a picture is trained on, one of nine for all pictures.

    The shorter side is given, the longer is 1, 1 1/4, 1 1/2, 1 3/4 or 2 times as long: a training
    has many pictures of each shape, which make a batch, and little is cut off of most.

    Args:
        size: width and height of the picture, pixels.
        shorter: pixels.
    """
    aspect = min(max(size) / min(size), MAX_ASPECT)
    longer = shorter * round(aspect * _STEPS) // _STEPS
    return (longer, shorter) if size[0] >= size[1] else (shorter, longer)


def keeps(
    size: tuple[int, int], box: Sequence[float] | None, shape: tuple[int, int] = (1, 1)
) -> bool:
    """Whether a crop of a shape holds enough of what was edited.

    Args:
        size: width and height of the picture.
        box: of the record, xyxy; None: the whole picture may have changed, and a season or a style
            is whole in any crop.
        shape: the crop's width and height, or what is in proportion to them.
    """
    edited = clipped(box or (0, 0, 0, 0), size)
    if not area(edited):
        return True
    crop = crop_over(size, edited, (0.5, 0.5), shape)
    left, top, right, bottom = edited
    inside = (
        max(left, crop.left), max(top, crop.top),
        min(right, crop.left + crop.width), min(bottom, crop.top + crop.height),
    )  # fmt: skip
    return area(inside) >= LEAST_KEPT * area(edited)


def drawn(
    size: tuple[int, int],
    box: Sequence[float],
    row_id: str,
    number: int = 0,
    shape: tuple[int, int] = (1, 1),
) -> Crop:
    """One of a record's crops, by its id: the box lies anywhere in them.

    Were it always in the middle, an editor would learn to edit there.

    Args:
        size: width and height of the picture.
        box: that is kept, xyxy.
        row_id: of the record.
        number: 0 is as large as the picture allows, the others up to `MAX_ZOOM` smaller.
        shape: the crop's width and height, or what is in proportion to them.
    """
    rng = np.random.default_rng(sample_seed(0, row_id, "crop", number))
    across, down, zoom = (float(value) for value in rng.random(3))
    zoom = 1 + zoom * (MAX_ZOOM - 1) if number else 1.0
    return crop_over(size, box, (across, down), shape, zoom)


def crop_over(
    size: tuple[int, int],
    box: Sequence[float],
    place: tuple[float, float],
    shape: tuple[int, int] = (1, 1),
    zoom: float = 1.0,
) -> Crop:
    """A crop that keeps a box as far as it can; of a longer one, its middle.

    Args:
        size: width and height of the picture.
        box: xyxy in its pixels.
        place: 0..1 each, from left to right and top to bottom of the places that keep the box.
        shape: the crop's width and height, or what is in proportion to them.
        zoom: the largest such crop's sides over this one's, 1 or more; less is taken where the box
            would not fit.
    """
    left, top, right, bottom = whole(box, size)
    # Pixels of the picture for each of the shape.
    most = min(available / side for available, side in zip(size, shape, strict=True))
    least = max((right - left) / shape[0], (bottom - top) / shape[1])
    scale = min(most, max(most / zoom, least))
    width, height = (
        min(available, max(round(scale * side), 1))
        for available, side in zip(size, shape, strict=True)
    )
    return Crop(
        _start(left, right, width, size[0], place[0]),
        _start(top, bottom, height, size[1], place[1]),
        width,
        height,
    )


def edited_box(before: PIL.Image.Image, after: PIL.Image.Image, box: Sequence[float] | None) -> Box:
    """Where a pair differs, xyxy: the record's box, or what the pixels say where it has none.

    Args:
        before, after: RGB, of one size.
        box: of the record, xyxy; None: not known.
    """
    if box is not None:
        return clipped(box, before.size)
    scale = min(1.0, _COMPARED / max(before.size))
    across, down = (max(1, round(side * scale)) for side in before.size)
    pixels = [
        np.asarray(each.resize((across, down), Resampling.BOX), np.float32) / 255
        for each in (before, after)
    ]
    difference = np.abs(pixels[0] - pixels[1]).mean(2)
    energy = np.where(difference > _CHANGED, difference, 0) ** 2
    if not energy.any():
        return 0.0, 0.0, float(before.width), float(before.height)
    (left, right), (top, bottom) = _interval(energy.sum(0)), _interval(energy.sum(1))
    x, y = before.width / across, before.height / down
    return left * x, top * y, right * x, bottom * y


def _start(low: int, high: int, side: int, available: int, place: float) -> int:
    """Where a crop starts along one side of its picture."""
    first, last = max(0, high - side), min(low, available - side)
    if first >= last:
        # It fits at one place, or not at all: then its middle is kept.
        return min(max((low + high - side) // 2, 0), available - side)
    start = round(first + place * (last - first))
    return min(max(round(start / GRID) * GRID, first), last)


def _interval(energy: np.ndarray) -> tuple[int, int]:
    """The cells that hold a difference, but for what strays."""
    shares = np.cumsum(energy) / energy.sum()
    return int(np.searchsorted(shares, _STRAY)), int(np.searchsorted(shares, 1 - _STRAY)) + 1

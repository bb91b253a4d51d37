"""A few fixed shapes for pictures of any shape, so that a model sees whole batches of one.

A picture's shape is its own affair: it never depends on what else is in the batch.
"""

import math
from bisect import bisect_left

_COMMON = (1, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 2)
"""Longer side by the shorter, of most photographs; these are shapes themselves."""

MAX_DISTORTION = 0.03
"""By which a picture's aspect may be changed, of itself."""


def _ratios() -> list[float]:
    """The common ones, and as many between them as keep within the distortion."""
    ratios = [1.0]
    for ratio in _COMMON[1:]:
        first = ratios[-1]
        # Halfway between two neighbours a picture is changed most.
        number = math.ceil(math.log(ratio / first) / (2 * math.log1p(MAX_DISTORTION)))
        ratios += [first * (ratio / first) ** (step / number) for step in range(1, number + 1)]
    return ratios


_RATIOS = _ratios()
_STEP = (1 + MAX_DISTORTION) ** 2
"""From one shape to the next beyond the common ones."""


def fixed_shape(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """The shape that a picture is resized to, of 27 up to an aspect of 2, of which most
    photographs have one of nine.

    Args:
        size: width and height of the picture, pixels.
        shortest: pixels of the shape's shorter side.
        longest: pixels of its longer side at most; the shorter side gives way.

    Returns:
        Width and height, whose aspect differs from the picture's by `MAX_DISTORTION` at most, up
        to the rounding to whole pixels.
    """
    width, height = size
    ratio = _nearest(max(size) / min(size))
    longer = min(longest, round(shortest * ratio))
    shorter = min(shortest, max(1, round(longest / ratio)))
    return (longer, shorter) if width >= height else (shorter, longer)


def _nearest(ratio: float) -> float:
    """The shape's ratio that is least times larger or smaller."""
    if ratio > _RATIOS[-1]:
        steps = round(math.log(ratio / _RATIOS[-1]) / math.log(_STEP))
        return _RATIOS[-1] * _STEP**steps
    place = bisect_left(_RATIOS, ratio)
    neighbours = _RATIOS[max(place - 1, 0) : place + 1]
    return min(neighbours, key=lambda known: abs(math.log(known / ratio)))

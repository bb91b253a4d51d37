"""Boxes in pixels of a picture; a size is its width and height.

A box is rounded once, where it is widened: what is painted, measured and masked are the same whole
pixels, however the stages share their processes (Arrow's float32 holds whole numbers exactly).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Box = tuple[float, float, float, float]
"""Left, top, right, bottom (xyxy)."""


def clipped(box: Sequence[float], size: tuple[int, int]) -> Box:
    """The part of a box within a picture; a box without area where there is none."""
    left, top, right, bottom = box
    return max(left, 0.0), max(top, 0.0), min(right, float(size[0])), min(bottom, float(size[1]))


def whole(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """All pixels that a box touches within a picture."""
    left, top, right, bottom = clipped(box, size)
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def widened(
    box: Sequence[float], margin: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """A box grown on each side by `margin` (0..1) of its width or height, as `whole` pixels."""
    left, top, right, bottom = box
    across, down = margin * (right - left), margin * (bottom - top)
    return whole((left - across, top - down, right + across, bottom + down), size)


def area(box: Sequence[float]) -> float:
    """Square pixels; 0 for a box whose sides have changed places."""
    left, top, right, bottom = box
    return max(0.0, right - left) * max(0.0, bottom - top)


def iou(boxes: ArrayLike, region: ArrayLike) -> NDArray[np.floating]:
    """Intersection over union, 0..1, of each of some boxes [..., 4] with a region [4]."""
    a, b = np.asarray(boxes), np.asarray(region)
    low, high = np.maximum(a[..., :2], b[:2]), np.minimum(a[..., 2:], b[2:])
    overlap = (high - low).clip(min=0).prod(axis=-1)
    areas = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[2:] - b[:2]).prod()
    return np.asarray(overlap / np.maximum(areas - overlap, 1e-6))


def share_inside(boxes: ArrayLike, region: ArrayLike) -> NDArray[np.floating]:
    """The part, 0..1, of each of some boxes [..., 4] that lies within a region [4]."""
    a, b = np.asarray(boxes), np.asarray(region)
    low, high = np.maximum(a[..., :2], b[:2]), np.minimum(a[..., 2:], b[2:])
    areas = (a[..., 2:] - a[..., :2]).prod(axis=-1)
    return np.asarray((high - low).clip(min=0).prod(axis=-1) / np.maximum(areas, 1e-6))

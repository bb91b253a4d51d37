"""Drop pairs whose two images hardly differ: Eq. 1, ‖x_in − x_edit‖² < τ.

The square is the mean over pixels and channels of RGB 0..1, both images resized to one square
size, so that τ means the same for every resolution. τ is absolute, or set by rank (the worst
fraction of all pairs): then a first pass measures every pair and keeps one float of each.
"""

import math
from collections.abc import Iterable

import numpy as np
import PIL.Image

from reasonray.core import images
from reasonray.core.record import Row, add_scores, reject
from reasonray.core.sections import DivergenceConfig
from reasonray.stages.stage import Stage


def mean_squared_difference(a: PIL.Image.Image, b: PIL.Image.Image, size: int) -> float:
    """Mean squared difference of two RGB images, values 0..1, at `size` x `size` (bicubic)."""
    resized = (i.resize((size, size), PIL.Image.Resampling.BICUBIC) for i in (a, b))
    first, second = (np.asarray(i, dtype=np.int64) for i in resized)
    # Integers to the end: the first pass and the stage agree to the last bit on any processor.
    return int(((first - second) ** 2).sum()) / (255**2 * first.size)


def rank_threshold(values: Iterable[float], fraction: float) -> float | None:
    """The τ below which the least `fraction` (rounded down) of the values lies.

    Values that tie with the largest of them lie below it, too: of equal pairs none is better.
    None where the fraction is less than one value.
    """
    array = np.fromiter(values, dtype=np.float64)
    count = math.floor(fraction * len(array) + 1e-9)  # 0.29 * 100 is a little under 29
    if not count:
        return None
    largest = np.partition(array, count - 1)[count - 1]
    return float(np.nextafter(largest, np.inf))


class Divergence(Stage):
    """Measure how far a pair's images differ and reject those below τ (Eq. 1)."""

    name = "divergence"
    parts = ("I",)
    reads = {
        "input_image": "encoded image",
        "edited_image": "encoded image",
    }
    writes = {"scores.divergence": "mean squared difference, RGB 0..1"}
    rejects = {"unchanged": "the two images hardly differ"}

    def __init__(
        self, config: DivergenceConfig, *, seed: int, threshold: float | None = None
    ) -> None:
        """Combine the recipe's absolute τ with `threshold`, what `rank_threshold` gave."""
        self.config = config
        known = [value for value in (config.threshold, threshold) if value is not None]
        self.threshold = max(known, default=None)

    def process(self, rows: list[Row]) -> None:
        """Score every pair; reject those below the threshold."""
        for row in rows:
            value = _divergence(row, self.config)
            add_scores(row, divergence=value)
            if self.threshold is not None and value < self.threshold:
                detail = f"mean squared difference {value:.6f} is below {self.threshold:.6f}"
                reject(row, self.name, "unchanged", detail)


def _divergence(row: Row, config: DivergenceConfig) -> float:
    before, after = row.get("input_image"), row.get("edited_image")
    assert before is not None
    assert after is not None
    return mean_squared_difference(images.decode(before), images.decode(after), config.size)

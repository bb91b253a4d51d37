"""The square of a picture around a box: what a model is shown of it, at the model's own size."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from reasonray.core.boxes import Box, whole


@dataclass(frozen=True)
class Window:
    """A square of a picture, pixels; it may reach beyond the picture."""

    left: int
    top: int
    side: int

    def cut(self, image: Image.Image) -> Image.Image:
        """The window at its own size; beyond the picture its edge pixels are repeated."""
        columns = np.clip(np.arange(self.left, self.left + self.side), 0, image.width - 1)
        rows = np.clip(np.arange(self.top, self.top + self.side), 0, image.height - 1)
        inside = image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        pixels = np.asarray(inside)[rows[:, None] - rows[0], columns[None] - columns[0]]
        return Image.fromarray(pixels)

    def view(self, image: Image.Image, size: int) -> Image.Image:
        """The window at `size` pixels."""
        return _resized(self.cut(image), size)

    def back(self, painted: Image.Image) -> Image.Image:
        """A painted view at the window's own size."""
        return _resized(painted, self.side)

    def normalised(self, box: Box) -> tuple[float, ...]:
        """A box of the picture as fractions of the window, xyxy."""
        starts = (self.left, self.top) * 2
        return tuple((v - start) / self.side for v, start in zip(box, starts, strict=True))


def square_window(size: tuple[int, int], box: Box, ratio: float) -> Window:
    """The square that a picture is painted in: the box in its middle, and what stands around it.

    Its side is `ratio` times the box's longer one, at most the picture's shorter side, and never
    less than the box; it is moved into the picture as far as it fits. The whole of a large picture
    would leave a small object a few latent cells, and enlarge what is painted there.

    Args:
        size: width and height of the picture.
        box: xyxy within it, pixels.
        ratio: 1 or more.
    """
    left, top, right, bottom = whole(box, size)
    longer = max(right - left, bottom - top)
    side = max(min(round(ratio * longer), *size), longer)

    def start(low: int, high: int, available: int) -> int:
        if side >= available:
            return -((side - available) // 2)
        return min(max((low + high - side) // 2, 0), available - side)

    return Window(start(left, right, size[0]), start(top, bottom, size[1]), side)


def _resized(image: Image.Image, side: int) -> Image.Image:
    return (
        image
        if image.size == (side, side)
        else image.resize((side, side), Image.Resampling.LANCZOS)
    )

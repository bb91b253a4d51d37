"""From encoded bytes to RGB pixels and back: the one place that opens pictures.

Whatever the file (rotated by EXIF, CMYK, 16 bits, palette, transparent, animated, of another colour
space), what leaves `decode` is an upright sRGB picture without metadata; a box in a record is in
its pixels. A file that cannot be shown is a `RowError` with the reason.
"""

import contextlib
import functools
import io
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import PIL.Image
from PIL.Image import Transpose

from reasonray.core import in_hand
from reasonray.core.colours import NoRangeError, has_other_colours, is_deep_colour, to_srgb
from reasonray.core.errors import RowError
from reasonray.core.png import without_texts
from reasonray.core.record import Image
from reasonray.core.sections import EditedFormat
from reasonray.core.signatures import kind_of
from reasonray.core.silence import silence

REJECTS = {
    "unreadable_image": "the file is no picture in a format we read",
    "truncated_image": "the picture's header is good, its data are cut off or damaged",
    "too_many_pixels": "the picture has more pixels than images.max_pixels",
    "too_small": "the picture's shorter side is below images.min_side",
    "too_long": "the picture's longer side is more than images.max_aspect times its shorter side",
}
"""Reasons of the `RowError`s of `read`."""

# Only raster formats: Pillow would hand an EPS to Ghostscript.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *("AVIF", "HEIF", "JPEG2000", "PPM", "TGA"),
)

# What every reader of a dataset opens; the others need a plugin or a new Pillow.
_COMMON = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA")

# Each registers HEIC with Pillow; the first is what our extra brings.
_HEIC_PLUGINS = ("pi_heif", "pillow_heif")

_UNREAD = {
    "HEIC": "HEIC (a phone's), which needs a package: pip install 'reasonray[heic]', or convert "
    "it first",
    "AVIF": "AVIF, which this Pillow cannot read: pip install 'pillow>=11.3', or convert it first",
    "JPEG XL": "JPEG XL, which is not read: convert it first",
}
"""What is said of a kind that we know and cannot open; else its header must be damaged."""

# Containers of more kinds of pixels than Pillow knows.
_MANIFOLD = ("TIFF", "BMP", "JPEG 2000")

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

MAX_WEBP_SIDE = 16383
"""Pixels; the format has no room for more."""

MAX_PLAIN_PIXELS = 4_000_000
"""Of a picture that is handed on without being encoded."""

# Of Pillow's pixel limit, which is the process's.
_limit_lock = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A file's pixels, and what its bytes are good for.

    Attributes:
        pixels: RGB in sRGB, upright, without metadata.
        is_jpeg: the file is a JPEG.
        is_faithful: readers that know of EXIF's orientation and of nothing else see these pixels
            in the file's own bytes. Not so with another colour space, with grey of more than 8
            bits, with metadata that Pillow refuses, and where a plugin is needed.
    """

    pixels: PIL.Image.Image
    is_jpeg: bool
    is_faithful: bool


def decode(image: Image) -> PIL.Image.Image:
    """The pixels of an image that the stage `load` has let through, as `read` gives them.

    Within a batch (`in_hand`) all who ask get one picture: it is not to be changed in place.

    Raises:
        RowError: one of `REJECTS`.
    """
    known = in_hand.picture(image["bytes"])
    if known is None:
        known = read(image).pixels
        in_hand.remember(image["bytes"], known)
    return known


def read(
    image: Image,
    max_pixels: int | None = None,
    min_side: int | None = None,
    max_aspect: float | None = None,
) -> Picture:
    """Decode to RGB, upright, in sRGB; the first frame; transparency on white.

    Args:
        image: encoded bytes; its path is named in errors.
        max_pixels: checked against the header before decoding; None: any.
        min_side: of the shorter side, pixels; None: any.
        max_aspect: the longer side divided by the shorter; None: any.

    Raises:
        RowError: one of `REJECTS`.
    """
    data, name = image["bytes"], image["path"] or "image"

    def attempt(data: bytes, *, is_whole: bool) -> Picture:
        opened = _open(data, name)
        _check_size(opened.size, name, max_pixels, min_side, max_aspect)
        is_plain = not has_other_colours(opened)
        return Picture(
            pixels=pixels(opened, name),
            is_jpeg=opened.format in _JPEGS,
            is_faithful=is_whole and is_plain and opened.format in _COMMON,
        )

    # What Pillow warns of (damaged metadata, sizes near its limit) is a RowError or harmless.
    with silence:
        try:
            return attempt(data, is_whole=True)
        except RowError as error:
            lean = without_texts(data)
            if lean is None or error.reason not in ("unreadable_image", "truncated_image"):
                raise
        return attempt(lean, is_whole=False)


def pixels(opened: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """What `read` gives of a picture that Pillow has opened or made, in whatever mode.

    Args:
        opened, name: the picture, which need not be decoded yet, and how errors begin.

    Raises:
        RowError: it cannot be decoded, or what is black and white cannot be told.
    """
    try:
        is_deep = is_deep_colour(opened)
        opened.load()
        # Read after load: some formats keep it behind the pixels, TIFF is turned by Pillow itself.
        method = _UPRIGHT.get(_orientation(opened))
        upright = opened.transpose(method) if method is not None else opened
        rgb = to_srgb(upright, is_deep=is_deep)
    except NoRangeError as error:
        raise RowError("unreadable_image", f"{name}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise RowError("truncated_image", f"{name}: {_first_line(error)}") from error
    rgb.info = {}  # the encoders would write the file's own profile again
    return rgb


def size(image: Image) -> tuple[int, int]:
    """Width and height of the upright picture, from the file's header alone.

    Args:
        image: encoded bytes; its path is named in errors.

    Raises:
        RowError: `unreadable_image`.
    """
    name = image["path"] or "image"
    with silence:
        opened = _open(image["bytes"], name)
        width, height = opened.size
        # The first four turn nothing, or by half a turn.
        return (width, height) if _orientation(opened) < 5 else (height, width)


def transparency(image: Image) -> PIL.Image.Image | None:
    """The alpha channel, upright, of the first frame: 0 is transparent; None: there is none.

    Args:
        image: encoded bytes; its path is named in errors.

    Raises:
        RowError: `unreadable_image`, `truncated_image`.
    """
    name = image["path"] or "image"
    with silence:
        opened = _open(image["bytes"], name)
        try:
            opened.load()
            if not opened.has_transparency_data:
                return None
            alpha = opened.convert("RGBA").getchannel("A")
        except MemoryError:
            raise
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            raise RowError("truncated_image", f"{name}: {_first_line(error)}") from error
        method = _UPRIGHT.get(_orientation(opened))
        return alpha.transpose(method) if method is not None else alpha


def encode(image: PIL.Image.Image, format: EditedFormat, path: str | None = None) -> Image:
    """Encode as a record's picture, as RGB; the same pixels give the same bytes.

    Args:
        image: RGB.
        format: webp: without loss, a third of PNG's time and three quarters of its bytes (PNG in
            its place beyond `MAX_WEBP_SIDE`); png: without loss; jpeg: of `JPEG_QUALITY`.
        path: as the record is to have it.
    """
    if format == "jpeg":
        return encode_jpeg(image, path)
    if format == "webp" and max(image.size) <= MAX_WEBP_SIDE:
        return encode_webp(image, path)
    return encode_png(image, path)


def encode_png(image: PIL.Image.Image, path: str | None = None) -> Image:
    """Encode without loss as PNG, in a quarter of the default's time for 3 to 10 % more bytes."""
    return _encoded(image, path, "PNG", compress_level=1)


def encode_jpeg(image: PIL.Image.Image, path: str | None = None) -> Image:
    """Encode as JPEG of `JPEG_QUALITY`, all colours kept at full size (4:4:4)."""
    return _encoded(image, path, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def encode_webp(image: PIL.Image.Image, path: str | None = None) -> Image:
    """Encode without loss as WebP, at most `MAX_WEBP_SIDE` pixels a side, with its least effort."""
    return _encoded(image, path, "WEBP", lossless=True, quality=0, method=0)


def handed_on(image: PIL.Image.Image) -> Image:
    """A picture for the next stage, which encodes it: plain pixels (PPM), in a millisecond.

    Very large ones are WebP at once: a batch of plain ones could pass the 2 GB of an Arrow column.
    """
    if image.width * image.height > MAX_PLAIN_PIXELS:
        return encode(image, "webp")
    return _encoded(image, None, "PPM")


def _encoded(image: PIL.Image.Image, path: str | None, format: str, **options: Any) -> Image:
    buffer = io.BytesIO()
    rgb = image.convert("RGB") if image.mode != "RGB" else image
    rgb.save(buffer, format, **options)
    encoded: Image = {"bytes": buffer.getvalue(), "path": path}
    if format != "JPEG":
        in_hand.remember(encoded["bytes"], rgb)
    return encoded


def plain(image: Image, *, jpeg: bool = False) -> bytes:
    """Bytes that every reader shows as `decode` does: RGB, upright, in a common format.

    The image's own bytes if they are that already; else (turned by EXIF, transparent, grey, CMYK,
    16 bits, another colour space, another format) encoded anew.

    Args:
        image: encoded bytes; its path is named in errors.
        jpeg: JPEG is demanded, else PNG will do, too; what is encoded anew is JPEG or PNG.

    Raises:
        RowError: one of `REJECTS`.
    """
    is_plain = False
    # What others' Pillow refuses outright may still be a picture to `read`.
    with silence, contextlib.suppress(RowError):
        opened = _open(image["bytes"], image["path"] or "image")
        is_plain = (
            opened.format in (_JPEGS if jpeg else (*_JPEGS, "PNG"))
            and opened.mode == "RGB"
            and "transparency" not in opened.info
            and _orientation(opened) == 1
            and not has_other_colours(opened)
        )
    if is_plain:
        return image["bytes"]
    encode = encode_jpeg if jpeg else encode_png
    return encode(decode(image))["bytes"]


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that can be read here."""
    PIL.Image.init()
    for plugin in _HEIC_PLUGINS:
        try:
            import_module(plugin).register_heif_opener()
            break
        except ImportError:
            continue
    return tuple(name for name in _FORMATS if name in PIL.Image.OPEN)


@functools.cache
def extensions() -> frozenset[str]:
    """The extensions of pictures, lower case with the dot: of all that can be read here, and of
    those that people take for pictures and are told about one by one."""
    readable = formats()
    ours = (end for end, name in PIL.Image.EXTENSION.items() if name in readable)
    return frozenset((*ours, ".avif", ".heic", ".heif", ".hif", ".jxl"))


def _open(data: bytes, name: str) -> PIL.Image.Image:
    """Read the header only."""
    known = formats()
    try:
        with _limit_lock, _no_pixel_limit():
            return PIL.Image.open(io.BytesIO(data), formats=known)
    except PIL.UnidentifiedImageError as error:
        raise RowError("unreadable_image", f"{name}: {_unidentified(data)}") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise RowError("unreadable_image", f"{name}: {_first_line(error)}") from error


@contextlib.contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """None of Pillow's own: the caller has one, and says which. Nothing is decoded meanwhile."""
    limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = limit


def _unidentified(data: bytes) -> str:
    if not data:
        return "not a picture (it is empty)"
    kind = kind_of(data)
    if kind is None:
        return f"not a picture (it starts with {data[:8]!r})"
    if kind.startswith(("a ", "an ")):
        return f"not a picture but {kind}"
    is_read = kind not in _UNREAD or (kind == "AVIF" and "AVIF" in formats())
    is_read = is_read or (kind == "HEIC" and "HEIF" in formats())
    if not is_read:
        return _UNREAD[kind]
    rare = "of a kind that Pillow cannot read, or " if kind in _MANIFOLD else ""
    return f"{kind}, {rare}its header is damaged"


def _check_size(
    size: tuple[int, int],
    name: str,
    max_pixels: int | None,
    min_side: int | None,
    max_aspect: float | None,
) -> None:
    width, height = size
    shape = f"{name}: {width}x{height} pixels"
    if max_pixels is not None and width * height > max_pixels:
        raise RowError("too_many_pixels", f"{shape} are more than images.max_pixels {max_pixels:,}")
    if min_side is not None and min(size) < min_side:
        raise RowError("too_small", f"{shape}, a side is below images.min_side {min_side}")
    if max_aspect is not None and max(size) > max_aspect * min(size):
        detail = f"{shape}, {max(size) / min(size):.1f} to 1: images.max_aspect is {max_aspect:g}"
        raise RowError("too_long", detail)


def _orientation(image: PIL.Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error):
        return 1  # a broken EXIF block says nothing about the picture


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"

import io
import struct

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from reasonray.core.errors import RowError
from reasonray.core.images import decode, plain, read
from reasonray.core.record import Image

# The primaries' X, Y, Z under D50, as the profiles have them.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_RGB = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))


def profile(primaries: tuple[tuple[float, float, float], ...], gamma: float = 2.2) -> bytes:
    """An ICC profile of three primaries and one curve."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, primaries), strict=True))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    tags[b"wtpt"] = xyz((0.9642, 1.0, 0.8249))
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = bytearray(128)
    head[:4] = struct.pack(">I", start + len(body))
    head[8:12] = b"\x02\x40\0\0"
    head[12:24] = b"mntrRGB XYZ "
    head[36:40] = b"acsp"
    head[68:80] = b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return bytes(head) + table + body


def encoded(picture: PIL.Image.Image, kind: str = "PNG", **options: object) -> Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return {"bytes": buffer.getvalue(), "path": "a"}


def colour(image: Image) -> list[int]:
    values: list[int] = np.asarray(decode(image))[4, 4].tolist()
    return values


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB")),
        *(("WEBP", "RGB"), ("WEBP", "RGBA"), ("TIFF", "RGB")),
    ],
)
def test_exchanged_primaries_become_srgb(kind: str, mode: str) -> None:
    orange = PIL.Image.new("RGB", (32, 32), (204, 102, 51)).convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    exchanged = profile((SRGB[2], SRGB[0], SRGB[1]))
    image = encoded(orange, kind, icc_profile=exchanged, **options)
    assert np.allclose(colour(image), (102, 51, 204), atol=8)
    assert not read(image).is_faithful
    written = PIL.Image.open(io.BytesIO(plain(image)))
    assert "icc_profile" not in written.info
    assert np.allclose(np.asarray(written)[4, 4], (102, 51, 204), atol=8)


@pytest.mark.parametrize("primaries", [DISPLAY_P3, ADOBE_RGB])
def test_a_wide_gamut_s_colours_are_shown_stronger(
    primaries: tuple[tuple[float, float, float], ...],
) -> None:
    green = PIL.Image.new("RGB", (32, 32), (100, 180, 100))
    red, strong, blue = colour(encoded(green, icc_profile=profile(primaries)))
    assert red < 95
    assert strong >= 179
    assert blue < 101
    # And what is grey stays grey.
    grey = PIL.Image.new("RGB", (32, 32), (128, 128, 128))
    assert np.allclose(colour(encoded(grey, icc_profile=profile(primaries))), 128, atol=3)


def test_srgb_by_any_hand_and_a_damaged_profile_move_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = profile(SRGB)[:16] + b"GRAY" + profile(SRGB)[20:]
    for each in (own, b"no profile", own[:200], grey):
        image = encoded(PIL.Image.fromarray(noise), icc_profile=each)
        assert np.array_equal(np.asarray(decode(image)), noise)
        assert read(image).is_faithful
        assert plain(image) == image["bytes"]


def test_lab_is_shown() -> None:
    lab = PIL.Image.new("LAB", (32, 32), (128, 128, 128))
    assert np.allclose(colour(encoded(lab, "TIFF")), 119, atol=4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("bits", "highest"), [(8, 255), (10, 900), (12, 4095), (14, 16_000)])
def test_grey_of_few_bits_in_sixteen_is_not_black(kind: str, bits: int, highest: int) -> None:
    ramp = np.linspace(0, highest, 64).astype(np.uint16)[None].repeat(40, 0)
    image = encoded(PIL.Image.fromarray(ramp), kind)
    seen = np.asarray(decode(image))[0, :, 0]
    assert seen[0] == 0
    assert abs(int(seen[-1]) - highest * 255 // (2**bits - 1)) <= 1
    assert len(np.unique(seen)) >= 60
    assert not read(image).is_faithful  # others show it black


def test_a_dark_picture_of_sixteen_bits_stays_dark() -> None:
    dark = np.full((40, 40), 20_000, np.uint16)
    assert colour(encoded(PIL.Image.fromarray(dark))) == [77, 77, 77]
    black = np.zeros((40, 40), np.uint16)
    assert colour(encoded(PIL.Image.fromarray(black))) == [0, 0, 0]


@pytest.mark.parametrize(
    ("values", "brightest"),
    [
        (np.linspace(0, 1, 64, dtype=np.float32), 255),
        (np.linspace(0, 255, 64, dtype=np.float32), 255),
        (np.linspace(0, 65_535, 64).astype(np.int32), 255),
        (np.linspace(0, 2**24 - 1, 64).astype(np.int32), 255),
        (np.linspace(-1, 1, 64, dtype=np.float32), None),
        (np.linspace(0, 3.5, 64, dtype=np.float32), None),
        (np.linspace(0, 1e6, 64, dtype=np.float32), None),
        (np.full(64, np.nan, np.float32), None),
        (np.linspace(-900, 900, 64).astype(np.int32), None),
    ],
)
def test_thirty_two_bits_are_shown_or_refused_by_their_range(
    values: np.ndarray, brightest: int | None
) -> None:
    image = encoded(PIL.Image.fromarray(values[None].repeat(40, 0)), "TIFF")
    if brightest is None:
        with pytest.raises(RowError, match=r"pixels (of|that)") as caught:
            decode(image)
        assert caught.value.reason == "unreadable_image"
    else:
        assert np.asarray(decode(image))[0, -1, 0] == brightest


def test_colours_of_sixteen_bits_that_pillow_shows_black_are_refused() -> None:
    def png(highest: int) -> Image:
        row = b"\0" + struct.pack(">3H", highest, highest // 2, 0) * 40
        return {"bytes": _png(40, 40, row * 40), "path": "deep"}

    with pytest.raises(RowError, match="deep: colours of 16 bits, of which 14 or fewer are used"):
        decode(png(4095))
    assert colour(png(65_535)) == [255, 127, 0]


def _png(width: int, height: int, rows: bytes) -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    pieces = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + pieces

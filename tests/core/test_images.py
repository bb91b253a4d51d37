import io
import re
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from reasonray.core.errors import RowError
from reasonray.core.images import (
    MAX_WEBP_SIDE,
    decode,
    encode,
    encode_jpeg,
    encode_png,
    encode_webp,
    handed_on,
    plain,
    read,
)
from reasonray.core.record import Image


def encoded(picture: PIL.Image.Image, kind: str, **options: object) -> Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return {"bytes": buffer.getvalue(), "path": f"a.{kind.lower()}"}


def halves(mode: str = "RGB", size: tuple[int, int] = (64, 40)) -> PIL.Image.Image:
    """Red on the left, blue on the right."""
    picture = PIL.Image.new("RGB", size, (255, 0, 0))
    picture.paste((0, 0, 255), (size[0] // 2, 0, *size))
    return picture.convert(mode)


def pixel(picture: PIL.Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = picture.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def refused(image: Image, **limits: float) -> RowError:
    with pytest.raises(RowError) as caught:
        read(image, **limits)  # type: ignore[arg-type]
    assert image["path"] is not None
    assert image["path"] in caught.value.detail
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    """A piece of a PNG."""
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def with_chunk(image: Image, piece: bytes) -> Image:
    """A PNG with a piece more, after its header."""
    return {"bytes": image["bytes"][:33] + piece + image["bytes"][33:], "path": image["path"]}


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_common_format_gives_upright_rgb(kind: str) -> None:
    picture = decode(encoded(halves(), kind))
    assert picture.mode == "RGB"
    assert picture.size == (64, 40)
    assert np.allclose(pixel(picture, 5, 20), (255, 0, 0), atol=12)
    assert np.allclose(pixel(picture, 60, 20), (0, 0, 255), atol=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    # How a camera stores the upright picture for each orientation: the inverse of the display.
    stored = {
        1: lambda p: p,
        2: lambda p: p.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.rotate(180, expand=True),
        4: lambda p: p.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(PIL.Image.Transpose.TRANSPOSE),
        6: lambda p: p.rotate(90, expand=True),
        7: lambda p: p.transpose(PIL.Image.Transpose.TRANSVERSE),
        8: lambda p: p.rotate(-90, expand=True),
    }
    upright = halves()
    upright.paste((0, 255, 0), (0, 0, 16, 8))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = (
        {"exif": exif.tobytes()} if kind != "TIFF" else {"tiffinfo": {0x0112: orientation}}
    )
    if kind in ("JPEG", "WEBP"):
        options["quality"] = 95
    seen = decode(encoded(stored[orientation](upright), kind, **options))
    assert seen.size == upright.size
    difference = np.asarray(seen).astype(int) - np.asarray(upright).astype(int)
    assert np.abs(difference).mean() < 6


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    image = encoded(halves(), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\xff\xff\x00\x10")
    assert decode(image).size == (64, 40)


def test_a_damaged_exif_entry_costs_neither_the_picture_nor_its_orientation() -> None:
    # Orientation 6, and a width that is text.
    entries = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    entries += b"\x01\x00\x00\x02\x00\x00\x00\x04\xff\xfe\x00\x01"
    exif = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x02" + entries + bytes(4)
    assert decode(encoded(halves(), "JPEG", exif=exif)).size == (40, 64)


def test_cmyk_and_grey_jpegs_become_rgb() -> None:
    cmyk = decode(encoded(halves("CMYK"), "JPEG"))
    assert cmyk.mode == "RGB"
    assert np.allclose(pixel(cmyk, 5, 20), (255, 0, 0), atol=30)
    grey = decode(encoded(halves("L"), "JPEG"))
    assert grey.mode == "RGB"
    assert np.allclose(pixel(grey, 5, 20), (76, 76, 76), atol=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_shades(kind: str) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(40, 0)
    seen = np.asarray(decode(encoded(PIL.Image.fromarray(ramp), kind)))
    assert seen[0, 0].tolist() == [0, 0, 0]
    assert abs(int(seen[0, 32, 0]) - 129) <= 1
    assert seen[0, -1].tolist() == [255, 255, 255]


def test_transparency_is_put_on_white() -> None:
    clear = halves("RGBA")
    clear.putalpha(PIL.Image.new("L", clear.size, 0))
    assert pixel(decode(encoded(clear, "PNG")), 5, 5) == (255, 255, 255)
    half = halves("RGBA")
    half.putalpha(PIL.Image.new("L", half.size, 128))
    assert np.allclose(pixel(decode(encoded(half, "PNG")), 5, 5), (255, 127, 127), atol=1)
    palette = halves("P")
    index = palette.getpixel((0, 0))
    assert pixel(decode(encoded(palette, "PNG", transparency=index)), 5, 5) == (255, 255, 255)
    assert pixel(decode(encoded(palette, "PNG", transparency=index)), 60, 5) == (0, 0, 255)
    grey_alpha = PIL.Image.new("LA", (40, 40), (0, 0))
    assert pixel(decode(encoded(grey_alpha, "PNG")), 5, 5) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "lime")]
    image = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.allclose(pixel(decode(image), 20, 20), (255, 0, 0), atol=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_cut_off_file_is_truncated(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    image = encoded(PIL.Image.fromarray(noise), kind)
    cut: Image = {"bytes": image["bytes"][: len(image["bytes"]) // 2], "path": image["path"]}
    assert refused(cut).reason == "truncated_image"


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"<!DOCTYPE html><p>404", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"],
)
def test_what_is_no_picture_is_unreadable(data: bytes) -> None:
    assert refused({"bytes": data, "path": "x.jpg"}).reason == "unreadable_image"


def test_a_bomb_is_refused_from_its_header_alone() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    bomb: Image = {"bytes": data, "path": "bomb.png"}
    assert refused(bomb, max_pixels=2_000_000_000).reason == "too_many_pixels"
    refusal = refused(bomb, max_pixels=10_000)
    assert refusal.reason == "too_many_pixels"
    assert "60000x60000 pixels are more than images.max_pixels 10,000" in refusal.detail


def test_the_limits_are_the_recipe_s() -> None:
    image = encoded(halves(size=(64, 40)), "PNG")
    assert read(image, max_pixels=64 * 40, min_side=40, max_aspect=1.6).pixels.size == (64, 40)
    assert refused(image, max_pixels=64 * 40 - 1).reason == "too_many_pixels"
    assert refused(image, min_side=41).reason == "too_small"
    assert refused(image, max_aspect=1.59).reason == "too_long"


def test_a_limit_above_pillow_s_own_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    image = encoded(halves(), "PNG")
    assert read(image, max_pixels=64 * 40).pixels.size == (64, 40)
    assert decode(image).size == (64, 40)
    assert PIL.Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (
            b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
            r"HEIC .*pip install 'reasonray.heic.'",
        ),
        (b"\xff\x0a" + bytes(90), "JPEG XL, which is not read"),
        (b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a", "JPEG XL, which is not read"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "PNG, its header is damaged"),
        (b"RIFF\x20\x00\x00\x00WEBPVPZZ" + bytes(20), "WebP, its header is damaged"),
        (b"\xff\xd8\xff" + bytes(8), "JPEG, its header is damaged"),
        (b"II*\x00" + bytes(20), "TIFF, of a kind that Pillow cannot read, or its header is d"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "not a picture but an SVG drawing"),
        (b"<!doctype html><p>404", "not a picture but a web page"),
        (b'<?xml version="1.0"?>\n<!-- ' + b"x" * 90 + b" -->\n<svg/>", "but an SVG drawing"),
        (b"\x00\x00\x00\x18ftypcrx \x00", "not a picture but a camera's raw file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs"),
        (b"%PDF-1.7", "not a picture but a PDF"),
        (b"hello, world", r"not a picture \(it starts with b'hello, w'\)"),
        (b"", r"not a picture \(it is empty\)"),
    ],
)
def test_the_true_fault_is_named(head: bytes, fault: str) -> None:
    refusal = refused({"bytes": head, "path": "x.jpg"})
    assert refusal.reason == "unreadable_image"
    assert re.search(fault, refusal.detail), refusal.detail


@pytest.mark.parametrize("kind", ["text", "compressed text", "unicode text", "profile", "both"])
def test_metadata_that_pillow_refuses_do_not_cost_the_picture(kind: str) -> None:
    long = b"x" * 3_000_000
    pieces = {
        "text": chunk(b"tEXt", b"workflow\0" + long) * 30,  # refused in sum
        "compressed text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(long)),
        "unicode text": chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(long)),
        "profile": chunk(b"iCCP", b"ICC\0\0" + zlib.compress(long)),
    }
    pieces["both"] = pieces["profile"] + pieces["compressed text"]
    image = with_chunk(encoded(halves(), "PNG"), pieces[kind])
    seen = read(image)
    assert np.array_equal(np.asarray(seen.pixels), np.asarray(halves()))
    assert not seen.is_faithful  # others' Pillow refuses it as ours did
    assert read({"bytes": plain(image), "path": None}).is_faithful


def test_texts_behind_the_pixels_are_left_out_too() -> None:
    image = encoded(halves(), "PNG")
    late = chunk(b"zTXt", b"note\0\0" + zlib.compress(b"x" * 3_000_000))
    data = image["bytes"][:-12] + late + image["bytes"][-12:]
    assert decode({"bytes": data, "path": None}).size == (64, 40)


def test_what_is_encoded_carries_nothing_of_the_file() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG", "WEBP"):
        picture = decode(encoded(halves(), kind, exif=exif.tobytes(), icc_profile=profile))
        for encoder in (encode_jpeg, encode_png, encode_webp):
            again = PIL.Image.open(io.BytesIO(encoder(picture)["bytes"]))
            assert again.size == (40, 64)
            assert "icc_profile" not in again.info
            assert not again.getexif()


def test_encoding_is_lossless_and_repeatable() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (33, 47, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(noise)
    assert np.array_equal(np.asarray(decode(encode_png(picture))), noise)
    assert np.array_equal(np.asarray(decode(encode_webp(picture))), noise)
    assert encode_webp(picture, "b.webp") == {**encode_webp(picture), "path": "b.webp"}
    assert encode_png(picture, "b.png") == {**encode_png(picture), "path": "b.png"}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF"]))
def test_damaged_bytes_give_a_picture_or_a_row_error(data: st.DataObject, kind: str) -> None:
    damaged = bytearray(encoded(halves(), kind)["bytes"])
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        picture = read({"bytes": bytes(damaged), "path": "d"}, max_pixels=10_000_000).pixels
    except RowError:
        return
    assert picture.mode == "RGB"


def test_threads_decode_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both have to be within the decoder before either may go on.
    together = threading.Barrier(2, timeout=20)
    original = PIL.ImageFile.ImageFile.load

    def load(opened: PIL.ImageFile.ImageFile) -> object:
        if opened.tile:
            together.wait()
        return original(opened)

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", load)
    image = encoded(halves(), "PNG")
    with ThreadPoolExecutor(2) as threads:
        pictures = list(threads.map(decode, [image, image]))
    assert [picture.size for picture in pictures] == [(64, 40)] * 2


@pytest.mark.parametrize(
    ("kind", "start"), [("webp", b"RIFF"), ("png", b"\x89PNG"), ("jpeg", b"\xff\xd8")]
)
def test_a_painted_picture_is_encoded_as_the_recipe_says(kind: Any, start: bytes) -> None:
    noise = PIL.Image.effect_noise((64, 40), 60).convert("RGB")
    image = encode(noise, kind)
    assert image["bytes"].startswith(start)
    off = np.asarray(decode(image)).astype(int) - np.asarray(noise)
    assert np.abs(off).max() == 0 if kind != "jpeg" else np.abs(off).mean() < 3


def test_a_side_that_webp_has_no_room_for_becomes_png() -> None:
    long = PIL.Image.new("RGB", (MAX_WEBP_SIDE + 1, 1))
    assert encode(long, "webp")["bytes"].startswith(b"\x89PNG")
    assert decode(encode(long, "webp")).size == long.size
    wide = PIL.Image.new("RGB", (MAX_WEBP_SIDE, 1))
    assert encode(wide, "webp")["bytes"].startswith(b"RIFF")


@pytest.mark.parametrize(("max_pixels", "start"), [(64 * 40, b"P6"), (64 * 40 - 1, b"RIFF")])
def test_a_picture_is_handed_on_as_plain_pixels_unless_it_is_huge(
    max_pixels: int, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonray.core.images.MAX_PLAIN_PIXELS", max_pixels)
    picture = PIL.Image.effect_noise((64, 40), 60).convert("RGB")
    image = handed_on(picture)
    assert image["bytes"].startswith(start)
    assert decode(image).tobytes() == picture.tobytes()

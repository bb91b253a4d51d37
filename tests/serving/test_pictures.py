import io
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from form_parts import bomb, encoded, openai_mask, photograph, picture, white_mask
from hypothesis import given
from hypothesis import strategies as st

from reasonray.core import images
from reasonray.core.crops import working_size
from reasonray.core.errors import UserError
from reasonray.serving import wire
from reasonray.serving.config import MAX_PIXELS
from reasonray.serving.errors import ApiError
from reasonray.serving.pictures import sizes, tasks
from reasonray.serving.task import (
    EditTask,
    Facts,
    Finisher,
    UnsafeError,
    at_reply_size,
    working_mask,
)

FACTS = Facts(
    side=64, factor=8, num_inference_steps=12, guidance_scale=2.0, image_guidance_scale=1.5,
    created=0,
)  # fmt: skip
SIZE, BOX = (160, 90), (140, 20, 160, 61)
"""Of a picture, and what of it may change, up to its border."""


def asked(image: bytes | None = None, **fields: Any) -> list[EditTask]:
    parts: list[tuple[str, str | bytes]] = [
        ("image", picture(SIZE) if image is None else image),
        ("prompt", "x"),
    ]
    parts += [(name, v if isinstance(v, bytes) else str(v)) for name, v in fields.items()]
    return tasks(wire.checked(parts), FACTS, 123.0)


def refused(image: bytes | None = None, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        asked(image, **fields)
    assert error.value.status == 400
    return error.value


def settings(task: EditTask) -> tuple[float, ...]:
    return task.num_inference_steps, task.guidance_scale, task.image_guidance_scale


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))


@given(
    st.integers(32, 6000), st.integers(32, 6000), st.integers(32, 1024), st.sampled_from([2, 8, 16])
)
def test_the_model_works_in_the_picture_s_shape(
    width: int, height: int, side: int, factor: int
) -> None:
    at = working_size((width, height), side, factor)
    assert all(each % factor == 0 and each >= factor for each in at)
    assert at[0] <= max(factor, width)
    assert at[1] <= max(factor, height)
    if min(at) > factor:
        assert min(at) <= side
        assert at[0] * at[1] <= 2 * side * side
    if min(width, height) <= side and max(width, height) <= 2 * side:
        assert width - at[0] < factor
        assert height - at[1] < factor


def test_a_picture_is_edited_at_the_model_s_size_and_comes_back_at_its_own() -> None:
    [task] = asked()
    assert task.image.shape == (64, 112, 3)
    assert (task.size, task.mask, task.source, task.full_mask) == (SIZE, None, None, None)
    assert (task.num_inference_steps, task.guidance_scale, task.image_guidance_scale) == (
        12,
        2,
        1.5,
    )
    assert at_reply_size(PIL.Image.fromarray(task.image), task).size == SIZE


def test_a_small_picture_is_not_made_larger() -> None:
    [task] = asked(picture((49, 33)))
    assert task.image.shape == (32, 48, 3)
    assert task.size == (49, 33)


def test_several_pictures_differ_by_their_seed_alone() -> None:
    several = asked(n=3, seed=7, num_inference_steps=5, guidance_scale=3, image_guidance_scale=0)
    assert [each.seed for each in several] == [7, 8, 9]
    for each in several:
        assert (each.num_inference_steps, each.guidance_scale, each.image_guidance_scale) == (
            5,
            3,
            0,
        )
        assert each.deadline == 123.0


@pytest.mark.parametrize("field", ["mask", "mask_image"])
@pytest.mark.parametrize("format", ["png", "webp"])
def test_outside_the_mask_every_pixel_is_the_picture_s(field: str, format: str) -> None:
    source = picture(SIZE)
    mask = openai_mask(SIZE, BOX) if field == "mask" else white_mask(SIZE, BOX)
    [task] = asked(source, **{field: mask, "output_format": format})
    black = PIL.Image.new("RGB", task.image.shape[1::-1])
    reply = pixels(Finisher(mark=True, safety=None)(black, task))
    expected = pixels(source).copy()
    expected[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 0
    assert np.array_equal(reply, expected)


def test_what_may_change_a_little_may_change_at_the_model_s_size() -> None:
    mask = np.zeros((900, 1600), np.bool_)
    mask[0, 0] = mask[899, 1599] = True
    small = working_mask(mask, (128, 72))
    assert small.shape == (72, 128)
    assert small.sum() == 2
    assert small[0, 0]
    assert small[71, 127]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"exif": PIL.Image.Exif()}),  # turned, see below
        ("WEBP", {"lossless": True}),
        ("CMYK", {}),
        ("I;16", {}),
        ("RGBA", {}),
        ("P", {}),
    ],
)
def test_any_picture_is_what_it_looks_like(name: str, options: dict[str, Any]) -> None:
    """The pixels outside the mask are those that every viewer shows."""
    image: Any = photograph((64, 48))
    if name in ("CMYK", "P", "RGBA"):
        image = image.convert(name)
        name = "JPEG" if name == "CMYK" else "PNG"
        if image.mode == "RGBA":
            image.putalpha(PIL.Image.new("L", image.size, 128))
    if name == "I;16":
        image = PIL.Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        name = "PNG"
    if "exif" in options:
        options["exif"][0x0112] = 6
    data = encoded(image, name, **options)
    shown = np.asarray(images.read({"bytes": data, "path": None}).pixels)
    size = (shown.shape[1], shown.shape[0])
    [task] = asked(data, mask=openai_mask(size, (0, 0, 8, 8)))
    reply = pixels(Finisher(mark=False, safety=None)(PIL.Image.new("RGB", (48, 40)), task))
    assert reply.shape == shown.shape
    assert np.array_equal(reply[8:], shown[8:])
    assert not reply[:8, :8].any()


def test_a_mask_of_another_shape_than_the_upright_picture_is_refused() -> None:
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    data = encoded(photograph((64, 48)), "JPEG", exif=turned)
    assert asked(data, mask=openai_mask((48, 64), (0, 0, 8, 8)))[0].size == (48, 64)
    assert "48x64" in refused(data, mask=openai_mask((64, 48), (0, 0, 8, 8))).message


def half_transparent(size: tuple[int, int]) -> PIL.Image.Image:
    mask = PIL.Image.new("RGBA", size, (255, 255, 255, 255))
    mask.paste((255, 255, 255, 128), (0, 0, 20, 20))
    return mask


def one_transparent_index(size: tuple[int, int]) -> bytes:
    mask = PIL.Image.new("P", size, 1)
    mask.putpalette([0, 0, 0, 255, 255, 255])
    mask.paste(0, BOX)
    return encoded(mask, transparency=0)


def test_a_palette_with_a_transparent_colour_is_a_mask() -> None:
    [task] = asked(mask=one_transparent_index(SIZE))
    assert task.mask is not None
    assert 0 < task.mask.sum() < task.mask.size / 4


@pytest.mark.parametrize(
    ("field", "mask", "match"),
    [
        ("mask", openai_mask((159, 90), BOX), "159x90, the picture 160x90"),
        ("mask", openai_mask(SIZE, (0, 0, 0, 0)), "no pixel is fully transparent"),
        ("mask", encoded(half_transparent(SIZE)), "no pixel is fully transparent"),
        ("mask", white_mask(SIZE, BOX), "no transparency"),
        ("mask", encoded(photograph(SIZE), "JPEG"), "expected PNG, this is JPEG"),
        ("mask", encoded(half_transparent(SIZE), "WEBP"), "expected PNG, this is WebP"),
        ("mask", b"", "it is empty"),
        ("mask", openai_mask(SIZE, BOX)[:-60], ""),
        ("mask_image", openai_mask(SIZE, BOX), "without transparency"),
        ("mask_image", white_mask(SIZE, (0, 0, 0, 0)), "no pixel is white"),
        ("mask_image", white_mask((90, 160), BOX), "90x160, the picture 160x90"),
        ("mask_image", b"<svg>", "SVG"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(field: str, mask: bytes, match: str) -> None:
    error = refused(**{field: mask})
    assert (error.param, error.code) == (field, "invalid_image")
    assert match in error.message


def test_a_full_mask_is_as_good_as_none() -> None:
    [task] = asked(mask=openai_mask(SIZE, (0, 0, *SIZE)))
    assert task.mask is not None
    assert task.mask.all()


@pytest.mark.parametrize(
    ("data", "code", "match"),
    [
        (b"", "invalid_image", "is empty"),
        (b"hello", "invalid_image", "b'hello'"),
        (b"<!DOCTYPE html>", "invalid_image", "web page"),
        (encoded(photograph((64, 64)), "GIF"), "invalid_image", "this is GIF"),
        (encoded(photograph((64, 64)), "BMP"), "invalid_image", "this is BMP"),
        (encoded(photograph((64, 64)), "TIFF"), "invalid_image", "this is TIFF"),
        (picture()[:40], "invalid_image", ""),
        (picture()[:-500], "invalid_image", ""),
        (encoded(photograph((200, 200)), "JPEG")[:2000], "invalid_image", ""),
        (picture((64, 31)), "invalid_image", "shorter than 32"),
        (picture((331, 33)), "invalid_image", "10 to 1"),
        (encoded(PIL.Image.new("1", (4097, 4096))), "too_many_pixels", "4097x4096"),
        (bomb((60_000, 60_000)), "too_many_pixels", "60000x60000"),
    ],
)
def test_a_picture_that_cannot_be_edited_is_refused(data: bytes, code: str, match: str) -> None:
    error = refused(data)
    assert (error.param, error.code) == ("image", code)
    assert match in error.message


def test_the_largest_picture_is_edited() -> None:
    assert asked(encoded(PIL.Image.new("1", (4096, 4096))))[0].size == (4096, 4096)


def test_a_reply_s_pixels_are_limited_together() -> None:
    large = encoded(PIL.Image.new("1", (4096, 4096)))
    assert len(asked(large, n=2)) == 2
    assert (refused(large, n=3).param, MAX_PIXELS) == ("n", 4096 * 4096)


def test_the_listed_sizes_may_be_asked_for() -> None:
    assert sizes(FACTS) == ["64x64", "96x64", "64x96"]
    [task] = asked(size="64x64", mask=openai_mask(SIZE, BOX))
    assert (task.size, task.image.shape) == ((64, 64), (64, 64, 3))
    black = PIL.Image.new("RGB", (64, 64))
    reply = np.asarray(at_reply_size(black, task))
    assert reply[:, :53].max(axis=2).all()
    assert not reply[20:34, 59:].any()
    assert asked(size="160x90")[0].size == SIZE
    error = refused(size="96x96")
    assert error.param == "size"
    assert "64x64" in error.message


def never(image: PIL.Image.Image, prompt: str) -> str | None:
    return f"not {prompt} at {image.size}" if prompt == "bad" else None


def test_a_checker_sees_every_result_and_may_refuse_it() -> None:
    [task] = asked()
    finisher = Finisher(mark=True, safety=f"{__name__}:never")
    image = PIL.Image.fromarray(task.image)
    assert finisher(image, task)
    with pytest.raises(UnsafeError, match=r"not bad at \(160, 90\)"):
        finisher(image, replace(task, instruction="bad"))
    for wrong in ("no.such:thing", "json:no_such"):
        with pytest.raises(UserError, match=wrong):
            Finisher(mark=True, safety=wrong)

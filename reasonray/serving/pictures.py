"""The pictures of a form opened and checked, and brought to the size at which an editor works."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from reasonray.core import images
from reasonray.core.crops import working_size
from reasonray.core.errors import RowError
from reasonray.core.signatures import kind_of
from reasonray.serving.config import MAX_ASPECT, MAX_PIXELS, MIN_SIDE
from reasonray.serving.errors import ApiError, invalid
from reasonray.serving.task import EditTask, Facts, resized, working_mask
from reasonray.serving.wire import EditForm

_KINDS = ("PNG", "JPEG", "WebP")

_SHAPES = ((1, 1), (3, 2), (2, 3))
"""Of the sizes that are listed; OpenAI lists these, too."""


def sizes(facts: Facts) -> list[str]:
    """The sizes that may be asked for beside auto: the largest that the editor works at."""
    large = 1 << 16
    shapes = [
        working_size((width * large, height * large), facts.side, facts.factor)
        for width, height in _SHAPES
    ]
    return [f"{width}x{height}" for width, height in shapes]


def tasks(form: EditForm, facts: Facts, deadline: float) -> list[EditTask]:
    """One task for each picture that the form asks for; takes as long as decoding does.

    Args:
        form: as it was read.
        facts: of the editor.
        deadline: Unix time.

    Raises:
        ApiError: 400, a picture cannot be used.
    """
    picture = _picture(form.image)
    mask = _mask(form, picture.size)
    size = _reply_size(form.size, picture.size, facts)
    if form.n * size[0] * size[1] > 2 * MAX_PIXELS:
        message = f"{form.n} pictures of {size[0]}x{size[1]} are too many pixels, ask for fewer"
        raise invalid("n", message, "too_many_pixels")
    at = working_size(size, facts.side, facts.factor)
    source, full_mask = None, None
    if mask is not None:
        if size != picture.size:
            mask = np.asarray(PIL.Image.fromarray(mask).resize(size))
        source, full_mask = form.image, np.packbits(mask).tobytes()
    pixels = np.asarray(resized(picture, at))
    steps, guidance, image_guidance = (
        form.num_inference_steps,
        form.guidance_scale,
        form.image_guidance_scale,
    )
    return [
        EditTask(
            image=pixels,
            instruction=form.prompt,
            seed=form.seed + number,
            num_inference_steps=facts.num_inference_steps if steps is None else steps,
            guidance_scale=facts.guidance_scale if guidance is None else guidance,
            image_guidance_scale=(
                facts.image_guidance_scale if image_guidance is None else image_guidance
            ),
            mask=None if mask is None else working_mask(mask, at),
            num_partials=form.num_partials,
            deadline=deadline,
            size=size,
            source=source,
            full_mask=full_mask,
            format=form.format,
            compression=form.compression,
        )
        for number in range(form.n)
    ]


def _reply_size(text: str, own: tuple[int, int], facts: Facts) -> tuple[int, int]:
    if text in ("auto", f"{own[0]}x{own[1]}"):
        return own
    listed = sizes(facts)
    if text not in listed:
        raise invalid("size", f"expected auto, {' or '.join(listed)}, not {text}")
    width, height = map(int, text.split("x"))
    return width, height


def _picture(data: bytes) -> PIL.Image.Image:
    """RGB, upright, in sRGB."""
    try:
        _check(data, "image", _KINDS)
        return images.read({"bytes": data, "path": None}).pixels
    except RowError as error:
        raise _unreadable("image", error) from error


def _mask(form: EditForm, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """HW, True may change."""
    if form.mask is None:
        return None
    name = form.mask_field
    try:
        changes = _transparent(form.mask) if name == "mask" else _white(form.mask)
    except RowError as error:
        raise _unreadable(name, error) from error
    height, width = changes.shape
    if (width, height) != size:
        raise invalid(
            name,
            f"is {width}x{height}, the picture {size[0]}x{size[1]}; they must be equal",
            "invalid_image",
        )
    if not changes.any():
        where = "fully transparent" if name == "mask" else "white"
        raise invalid(name, f"nothing may change: no pixel is {where}", "invalid_image")
    return changes


def _transparent(data: bytes) -> NDArray[np.bool_]:
    """Of OpenAI's mask, HW: where it is fully transparent."""
    _check(data, "mask", ("PNG",))
    alpha = images.transparency({"bytes": data, "path": None})
    if alpha is None:
        raise invalid(
            "mask",
            "has no transparency, and says by it what may change; send a black and white one as "
            "mask_image",
            "invalid_image",
        )
    transparent: NDArray[np.bool_] = np.asarray(alpha) == 0
    return transparent


def _white(data: bytes) -> NDArray[np.bool_]:
    """Of diffusers' mask, HW: where it is white, as its inpainting pipelines round it."""
    _check(data, "mask_image", _KINDS)
    alpha = images.transparency({"bytes": data, "path": None})
    if alpha is not None and (np.asarray(alpha) < 255).any():
        raise invalid(
            "mask_image",
            "is black and white without transparency; send a transparent one as mask",
            "invalid_image",
        )
    grey = images.read({"bytes": data, "path": None}).pixels.convert("L")
    white: NDArray[np.bool_] = np.asarray(grey) >= 128
    return white


def _check(data: bytes, name: str, kinds: Sequence[str]) -> None:
    """By the first bytes and the header alone.

    Raises:
        ApiError, RowError: of another kind or size, or without a header.
    """
    kind = kind_of(data)
    if kind not in kinds:
        what = kind or ("nothing: it is empty" if not data else f"a file that starts {data[:8]!r}")
        expected = " or ".join(kinds)
        raise invalid(name, f"expected {expected}, this is {what}", "invalid_image")
    width, height = images.size({"bytes": data, "path": None})
    shape = f"has {width}x{height} pixels"
    if width * height > MAX_PIXELS:
        raise invalid(name, f"{shape}, at most {MAX_PIXELS:,} are edited", "too_many_pixels")
    if min(width, height) < MIN_SIDE:
        raise invalid(name, f"{shape}, a side is shorter than {MIN_SIDE}", "invalid_image")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise invalid(name, f"{shape}, longer than {MAX_ASPECT} to 1", "invalid_image")


def _unreadable(name: str, error: RowError) -> ApiError:
    return invalid(name, error.detail.removeprefix("image: "), "invalid_image")

"""Squares for trainers that make some of every picture, by squeezing it or by cutting its ends off.

InstructPix2Pix's `edit_dataset.py` and diffusers' scripts resize both sides to the resolution;
their offspring cut the middle out. Neither happens to a square, and this one keeps the edit.
"""

from typing import cast

from PIL.Image import Resampling

from reasonray.core import images
from reasonray.core.crops import drawn, edited_box, keeps
from reasonray.core.record import Image, Row


def squared(sample: Row, *, jpeg: bool) -> Row | None:
    """A sample with its pictures cut to the same square over what was edited.

    Args:
        sample: accepted.
        jpeg: how a square is encoded, JPEG or PNG; pictures that are squares keep their bytes.

    Returns:
        The sample, whose box is still in the whole picture's pixels; None where no square keeps
        the edit.
    """
    encoded = [cast(Image, sample["input_image"]), cast(Image, sample["edited_image"])]
    before, after = (images.decode(each) for each in encoded)
    box = sample.get("box")
    if not keeps(before.size, box):
        return None
    if before.size == after.size and before.width == before.height:
        return sample
    if after.size != before.size:
        after = after.resize(before.size, Resampling.LANCZOS)
    crop = drawn(before.size, edited_box(before, after, box), sample["id"])
    encode = images.encode_jpeg if jpeg else images.encode_png
    squares = [encode(crop.of(each), path["path"]) for each, path in
               zip((before, after), encoded, strict=True)]  # fmt: skip
    return cast(Row, {**sample, "input_image": squares[0], "edited_image": squares[1]})

"""From a dataset's records to the pairs of pictures that an editor learns from.

A record is one sample; its variants are crops of it (`core.crops`), every second one mirrored
where the recipe asks for that and nothing that is said of it names a side. They follow from the
record's id and the variant's number alone, so that a cache and a training without one see the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from PIL import Image, ImageOps

from reasonray.core import images
from reasonray.core.crops import drawn, edited_box, keeps, training_size
from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import RowError, UserError
from reasonray.core.record import Image as Encoded

TEXTS = ("instruction", "direct_instruction", "input_caption", "edited_caption")
IMAGES = ("input_image", "edited_image")
COLUMNS = ("id", "part", "source", "source_id", "box", *TEXTS, *IMAGES)
"""Of a record, what a training reads; `IMAGES` are source and target."""

_SIDES = re.compile(r"\b(left|right|(anti|counter)?-?clockwise)", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """One variant of one record.

    Attributes:
        id: the record's.
        source, target: RGB, crops at the size that is trained on, as the VAE reads them.
        seen: RGB, the source's crop at its own size: the multimodal model reads more of it.
        instruction, direct_instruction: the record's.
    """

    id: str
    source: Image.Image
    target: Image.Image
    seen: Image.Image
    instruction: str
    direct_instruction: str


def pairs(row: Mapping[str, Any], numbers: range, config: EditorConfig) -> list[Pair]:
    """Some variants of a record.

    Args:
        row: with `COLUMNS`; images as encoded bytes.
        numbers: of the variants, each below the recipe's `num_crops`.
        config: its `image_size` and `flip` count.

    Raises:
        UserError: a picture cannot be read; names the record.
    """
    before, after = (_decoded(row, column) for column in IMAGES)
    if after.size != before.size:
        after = after.resize(before.size, Image.Resampling.LANCZOS)
    box = edited_box(before, after, row["box"])
    flips = config.flip and not any(_SIDES.search(row[name] or "") for name in TEXTS)
    size = training_size(before.size, config.image_size)
    variants = []
    for number in numbers:
        crop = drawn(before.size, box, row["id"], number, size)
        parts = [crop.of(each) for each in (before, after)]
        if flips and number % 2:
            parts = [ImageOps.mirror(each) for each in parts]
        source, target = (each.resize(size, Image.Resampling.LANCZOS) for each in parts)
        texts = row["instruction"], row["direct_instruction"]
        variants.append(Pair(row["id"], source, target, parts[0], *texts))
    return variants


def size_kept(row: Mapping[str, Any], config: EditorConfig) -> tuple[int, int] | None:
    """Width and height that a record is trained on, from its picture's header.

    Args:
        row: with `id`, `box` and `input_image`.
        config: its `image_size` counts.

    Returns:
        Pixels; None where no crop holds what was edited.

    Raises:
        UserError: the header cannot be read; names the record.
    """
    try:
        size = images.size(cast(Encoded, row["input_image"]))
    except RowError as error:
        raise UserError(f"record {row['id']}: input_image: {error}") from error
    shape = training_size(size, config.image_size)
    return shape if keeps(size, row["box"], shape) else None


def origin(row: Mapping[str, Any]) -> str:
    """What a record was made of: the same text for all that may not be on two sides of a split.

    InstructPix2Pix makes up to four pairs of one prompt, whose pictures are alike: there it is the
    prompt's caption, which all formats have, elsewhere the input.
    """
    if "instructpix2pix" in row["source"] and row["input_caption"]:
        return f"{row['source']}/{row['input_caption']}"
    return f"{row['source']}/{row['source_id']}"


def _decoded(row: Mapping[str, Any], column: str) -> Image.Image:
    try:
        return images.decode(cast(Encoded, row[column] or {"bytes": b"", "path": None}))
    except RowError as error:
        raise UserError(f"record {row['id']}: {column}: {error}") from error

"""Parquet in `train/`, as `datasets.load_dataset` opens it, with the columns of others' datasets.

Images are its `Image` feature; their bytes are the record's own wherever every reader shows them
alike (`images.plain`).
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import PIL.Image
import pyarrow as pa

from reasonray.core import images
from reasonray.core.boxes import whole
from reasonray.core.record import IMAGE, Image, Row
from reasonray.core.sections import OutputConfig
from reasonray.dataset.shards import Shards, with_image_features

DIFFUSERS = pa.schema(
    [("input_image", IMAGE), ("edit_prompt", pa.string()), ("edited_image", IMAGE)]
)
"""What diffusers' `train_instruct_pix2pix.py` reads unless it is told otherwise."""

MAGICBRUSH = pa.schema(
    [
        ("img_id", pa.string()),
        ("turn_index", pa.int32()),
        ("source_img", IMAGE),
        ("mask_img", IMAGE),
        ("instruction", pa.string()),
        ("target_img", IMAGE),
    ]
)
"""The columns of osunlp/MagicBrush on the Hugging Face hub."""

# Rows written together: some 100 MB of photographs.
_GROUP_ROWS = 32

Rows = Callable[[Row, Mapping[str, str]], Iterator[dict[str, Any]]]


class Table:
    """Writes shards of one schema; `rows` makes its rows of a sample and its instructions."""

    def __init__(self, folder: Path, schema: pa.Schema, rows: Rows) -> None:
        self._schema = with_image_features(schema)
        self._shards = Shards(folder / "train", self._schema, OutputConfig())
        self._rows = rows
        self._waiting: list[dict[str, Any]] = []

    def write(self, sample: Row, instructions: Mapping[str, str]) -> None:
        """Add the sample's rows."""
        self._waiting += self._rows(sample, instructions)
        if len(self._waiting) >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Finish the last shard."""
        if self._waiting:
            self._flush()
        self._shards.close()

    def _flush(self) -> None:
        self._shards.write(pa.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting = []


def diffusers(sample: Row, instructions: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A row of `DIFFUSERS` for each instruction."""
    before, after = _plain(sample["input_image"]), _plain(sample["edited_image"])
    for instruction in instructions.values():
        yield {"input_image": before, "edit_prompt": instruction, "edited_image": after}


def magicbrush(sample: Row, instructions: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A row of `MAGICBRUSH` for each instruction.

    MagicBrush's users make file names of `img_id`: it is the sample's id and the instruction's
    kind, quoted as in a URL. A later turn edits what the one before it made, so that all of ours
    are first ones.
    """
    before, after = _plain(sample["input_image"]), _plain(sample["edited_image"])
    picture = images.decode(cast(Image, sample["input_image"]))
    region = {"bytes": mask(picture, sample.get("box")), "path": None}
    for kind, instruction in instructions.items():
        yield {
            "img_id": quote(f"{sample['id']}/{kind}", safe=""),
            "turn_index": 1,
            "source_img": before,
            "mask_img": region,
            "instruction": instruction,
            "target_img": after,
        }


def mask(image: PIL.Image.Image, box: Sequence[float] | None) -> bytes:
    """MagicBrush's mask: the source, with the region to be edited white and transparent.

    Its card speaks of the white region, its author takes the region from the alpha channel
    (OSU-NLP-Group/MagicBrush, issue 10): 0 where the picture is edited.

    Args:
        image: RGB, upright.
        box: xyxy in its pixels; None: anything may have changed.

    Returns:
        An RGBA PNG of the image's size.
    """
    masked = image.convert("RGBA")
    masked.paste((255, 255, 255, 0), whole(box or (0, 0, *image.size), image.size))
    buffer = io.BytesIO()
    masked.save(buffer, "PNG")
    return buffer.getvalue()


def _plain(image: Image | None) -> Image:
    return {"bytes": images.plain(cast(Image, image)), "path": None}

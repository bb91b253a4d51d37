"""A plain folder of images, with captions or without.

Captions stand in `metadata.jsonl` beside the images as `datasets` has them for its ImageFolder:
one object a line, `file_name` relative to the folder, the caption under `text` or `caption`.
"""

from collections.abc import Iterator

from reasonray.core.errors import UserError
from reasonray.core.record import Part
from reasonray.core.sections import SourceConfig
from reasonray.sources.files import Folder, summary
from reasonray.sources.item import Item

PARTS: tuple[Part, ...] = ("III",)

METADATA = "metadata.jsonl"
_EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jp2"),
)


def read(source: SourceConfig) -> Iterator[Item]:
    """Every image below, folder by folder and sorted; ids are the relative file names.

    Images that the metadata lists and that are not there come last.

    Raises:
        UserError: no image at all, or malformed metadata.
    """
    folder = Folder.at(source.path)
    captions = _captions(folder)
    num_images = 0
    for name in folder.walk():
        if name.lower().endswith(_EXTENSIONS):
            num_images += 1
            yield Item(name, folder.uri(name), input_caption=captions.pop(name, None))
    for name, caption in captions.items():
        num_images += 1
        yield Item(name, folder.uri(name), input_caption=caption)
    if not num_images:
        raise UserError(
            f"source {source.path}: expected images ({', '.join(_EXTENSIONS)}), "
            f"found {summary(folder)}"
        )


def _captions(folder: Folder) -> dict[str, str | None]:
    captions: dict[str, str | None] = {}
    if METADATA not in folder.list()[1]:
        return captions
    for number, line in folder.read_json_lines(METADATA):
        place = f"{folder.uri(METADATA)}: line {number}"
        if not isinstance(line, dict) or not isinstance(line.get("file_name"), str):
            raise UserError(f"{place}: expected an object with file_name")
        name = line["file_name"].removeprefix("./")
        if name in captions:
            raise UserError(f"{place}: {name} is listed twice; an image has one caption")
        caption = line.get("text", line.get("caption"))
        if caption is not None and not isinstance(caption, str):
            raise UserError(f"{place}: the caption of {name} is no text: {caption!r}")
        captions[name] = (caption or "").strip() or None
    return captions

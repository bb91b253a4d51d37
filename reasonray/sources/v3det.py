"""V3Det: photographs in category folders, annotated as COCO does.

    annotations/v3det_2023_v1_train.json (or _val)         images/<node>/<name>.jpg
    annotations/v3det_2023_v1_test_image_info.json         test/<name>.jpg

Only the image list (and the licences, where the file has them) is used: Part III captions and
grounds each photo itself. The file may be far larger than memory; partial copies are welcome.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from reasonray.core.errors import UserError
from reasonray.core.record import Part
from reasonray.core.sections import SourceConfig
from reasonray.sources.files import Folder, summary
from reasonray.sources.item import Item
from reasonray.sources.json_stream import stream_array

PARTS: tuple[Part, ...] = ("III",)
SPLITS = ("train", "val", "test")


def read(source: SourceConfig) -> Iterator[Item]:
    """Every image of the split, in the file's order; ids are COCO's image ids.

    Raises:
        UserError: the folder is no V3Det, or its annotation file is malformed.
    """
    if source.split not in SPLITS:
        raise UserError(f"source {source.path}: split {source.split}: one of {', '.join(SPLITS)}")
    folder = Folder.at(source.path)
    annotations = _annotation_file(folder, source)
    uri = folder.uri(annotations)
    with _text(folder, annotations) as file:
        licenses = {
            entry.get("id"): entry.get("name") or entry.get("url")
            for entry in stream_array(file, "licenses", uri)
            if isinstance(entry, dict)
        }
    num_images = 0
    with _text(folder, annotations) as file:
        for image in stream_array(file, "images", uri):
            if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
                raise UserError(f"{uri}: images[{num_images}]: expected an object with file_name")
            num_images += 1
            yield Item(
                source_id=str(image.get("id", image["file_name"])),
                input_uri=folder.uri(image["file_name"]),
                license=_license(image.get("license"), licenses),
            )
    if not num_images:
        raise UserError(f"{uri}: no images in it; expected COCO's keys images, annotations, …")


def _annotation_file(folder: Folder, source: SourceConfig) -> str:
    """The split's, whatever the release is called."""
    endings = (f"_{source.split}.json", f"_{source.split}_image_info.json")
    sub_folders, _ = folder.list()
    files = folder.list("annotations")[1] if "annotations" in sub_folders else []
    names = [name for name in files if name.endswith(endings)]
    if len(names) == 1:
        return names[0]
    listed = ", ".join(names or files) or summary(folder)
    raise UserError(
        f"source {source.path}: expected one annotations/v3det_2023_v1{endings[0]} "
        f"or …{endings[1]}, found {listed}"
    )


@contextmanager
def _text(folder: Folder, name: str) -> Iterator[IO[str]]:
    with folder.filesystem.open(folder.path(name), "rb") as opened:
        yield io.TextIOWrapper(cast(IO[bytes], opened), encoding="utf-8-sig")


def _license(key: object, licenses: dict[Any, str | None]) -> str | None:
    """COCO's images refer to the list of licences by id; some files hold the text itself."""
    return licenses.get(key) or (key if isinstance(key, str) and key else None)

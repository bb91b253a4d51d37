"""V3Det: photographs in category folders, annotated as COCO does.

    annotations/v3det_2023_v1_train.json (or _val)         images/<node>/<name>.jpg
    annotations/v3det_2023_v1_test_image_info.json         test/<name>.jpg

The image list is used, the licences where the file has them, and, where the recipe asks for it,
which categories are annotated in each image; Part III captions and grounds each photo itself. The
file may be far larger than memory; partial copies are welcome.
"""

import functools
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from reasonray.core.errors import UserError
from reasonray.core.reading import protocols
from reasonray.core.record import Part
from reasonray.core.sections import SourceConfig
from reasonray.sources.files import Folder, summary
from reasonray.sources.item import Item
from reasonray.sources.json_stream import stream_array
from reasonray.sources.names import Names, is_url, slashed

PARTS: tuple[Part, ...] = ("III",)
SPLITS = ("train", "val", "test")


def read(source: SourceConfig, notices: list[str]) -> Iterator[Item]:
    """Every image of the split, in the file's order; ids are COCO's image ids, else file names.

    Args:
        source: its path is a folder.
        notices: gets a sentence each, with a count, about file names that are URLs, licences that
            are none, and categories that are asked for and not there.

    Raises:
        UserError: the folder is no V3Det, or its annotation file is malformed.
    """
    if source.split not in SPLITS:
        raise UserError(f"source {source.path}: split {source.split}: one of {', '.join(SPLITS)}")
    folder = Folder.at(source.path)
    annotations = _annotation_file(folder, source)
    uri = folder.uri(annotations)
    with _text(folder, annotations) as file:
        licenses = _licenses(stream_array(file, "licenses", uri))
    annotated = _annotated(folder, annotations) if source.categories else {}
    if source.categories and not annotated:
        notices.append(
            f"{uri}: no image has annotated categories; captions alone name what is there"
        )
    num_images = 0
    urls: list[str] = []
    unlicensed: list[str] = []
    find = _Finder(folder)
    with _text(folder, annotations) as file:
        for image in stream_array(file, "images", uri):
            name = image.get("file_name") if isinstance(image, dict) else None
            if not (isinstance(name, str) and name):
                seen = f" (it has {', '.join(image)})" if isinstance(image, dict) else ""
                raise UserError(
                    f"{uri}: images[{num_images}]: expected an object with file_name{seen}"
                )
            num_images += 1
            number = image.get("id")
            source_id = name if number is None or number == "" else str(number)
            terms = _license(image.get("license"), licenses)
            if terms is None and image.get("license") not in (None, ""):
                unlicensed.append(source_id)
            if is_url(name):
                urls.append(name)
                problem = f"{uri}: image {source_id}: {name} is a URL, and URLs are not followed"
                yield Item(source_id, name, license=terms, reason="missing_image", detail=problem)
            else:
                known = tuple(annotated.get(str(number), ()))
                yield Item(source_id, folder.uri(find(name)), categories=known, license=terms)
    if urls:
        notices.append(
            f"{uri}: {len(urls)} file names are URLs, which are not followed: download them first "
            f"(the first: {urls[0]})"
        )
    if unlicensed:
        notices.append(
            f"{uri}: {len(unlicensed)} images have a license that is neither a text nor the id of "
            f"one in its list (the first: image {unlicensed[0]}); theirs is taken for not stated"
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


class _Finder:
    """Finds the file that a name in the annotations means, where the copy spells it otherwise.

    Far away only what has "\\" or letters that can be composed is looked for: each folder costs
    a request.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._is_near = "file" in protocols(folder.filesystem)
        self._files = functools.lru_cache(maxsize=64)(self._list)

    def __call__(self, name: str) -> str:
        is_plain = name.isascii() and "\\" not in name
        if is_plain and (not self._is_near or Path(self._folder.path(name)).exists()):
            return name
        parent = slashed(name).rpartition("/")[0]
        # An archive made on Windows may have been unpacked into names with "\\" in them.
        return self._files(parent).find(name) or self._files("").find(name) or slashed(name)

    def _list(self, parent: str) -> Names:
        try:
            return Names(self._folder.list(parent)[1])
        except (FileNotFoundError, NotADirectoryError):
            return Names(())


def _annotated(folder: Folder, name: str) -> dict[str, list[str]]:
    """The names of the categories in each image, by its id as text, each once, as they come."""
    uri = folder.uri(name)
    with _text(folder, name) as file:
        names = {
            str(each["id"]): each["name"]
            for each in stream_array(file, "categories", uri)
            if isinstance(each, dict) and _is_key(each.get("id"))
            and isinstance(each.get("name"), str)
        }  # fmt: skip
    annotated: dict[str, list[str]] = {}
    with _text(folder, name) as file:
        for each in stream_array(file, "annotations", uri):
            category = names.get(str(each.get("category_id"))) if isinstance(each, dict) else None
            if category is not None:
                known = annotated.setdefault(str(each.get("image_id")), [])
                if category not in known:
                    known.append(category)
    return annotated


def _licenses(entries: Iterable[Any]) -> dict[str, str]:
    """COCO's list by id, as text: a file that was written by hand may have "1" for 1."""
    licenses = {}
    for entry in entries:
        if isinstance(entry, dict) and _is_key(entry.get("id")):
            names = (entry.get("name"), entry.get("url"))
            text = next((name for name in names if isinstance(name, str) and name), None)
            if text is not None:
                licenses[str(entry["id"])] = text
    return licenses


def _license(key: object, licenses: dict[str, str]) -> str | None:
    """COCO's images refer to the list of licences by id; some files hold the text itself."""
    if not _is_key(key):
        return None
    return licenses.get(str(key)) or (key if isinstance(key, str) and key else None)


def _is_key(key: object) -> bool:
    return isinstance(key, int | str) and not isinstance(key, bool)

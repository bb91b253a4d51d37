"""A plain folder of images, with captions (`sources.captions`) or without."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from reasonray.core.errors import UserError
from reasonray.core.record import Part
from reasonray.core.sections import SourceConfig
from reasonray.core.signatures import HEAD_BYTES
from reasonray.core.signatures import is_picture as begins_as_picture
from reasonray.sources.captions import Captions, add_texts, read_metadata
from reasonray.sources.files import Folder, summary
from reasonray.sources.item import Item
from reasonray.sources.names import Names, extension, is_picture

PARTS: tuple[Part, ...] = ("III",)

_EXPECTED = ".jpg, .jpeg, .png, .webp, .gif, .bmp, .tiff, .avif, .heic, …"
_NUM_THREADS = 16


def read(source: SourceConfig, notices: list[str]) -> Iterator[Item]:
    """Every image below, folder by folder and sorted; ids are the relative file names.

    Images that the metadata lists and that are not there come last. A file without extension is
    an image if it begins as one.

    Args:
        source: its path is a folder.
        notices: gets a sentence each, with a count, about files that are passed over, and about
            captions that are not there.

    Raises:
        UserError: no image at all, or malformed metadata.
    """
    folder = Folder.at(source.path)
    names = list(folder.walk())
    files = Names(names)
    captions = read_metadata(folder, files, notices)
    bare = [name for name in names if not extension(name)]
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        heads = threads.map(lambda name: _head(folder, name), bare)
        begun = {name for name, head in zip(bare, heads, strict=True) if begins_as_picture(head)}
    images = [name for name in names if is_picture(name) or name in begun or name in captions.texts]
    absent = [name for name in captions.texts if name not in files]
    if captions.texts and len(absent) == len(captions.texts):
        raise UserError(
            f"source {source.path}: none of the {len(absent)} images that its metadata lists is "
            f"there (the first: {absent[0]}); expected names relative to the metadata's folder"
        )
    add_texts(folder, files, images, captions)
    if not images and not captions.urls:
        raise UserError(
            f"source {source.path}: expected images ({_EXPECTED}), found {summary(folder)}"
        )
    notices += _notices(source, names, images, absent, captions)
    num_without = sum(captions.texts.get(name) is None for name in images)
    if 0 < num_without < len(images):
        notices.append(
            f"source {source.path}: {num_without} of {len(images)} images have no caption; the "
            "recipe's model captions them"
        )
    for name in images:
        problem = captions.unreadable.get(name)
        yield Item(
            name,
            folder.uri(name),
            input_caption=captions.texts.get(name),
            reason="bad_annotation" if problem else None,
            detail=problem,
        )
    for name in absent:
        yield Item(name, folder.uri(name), input_caption=captions.texts[name])
    for url, place in captions.urls.items():
        problem = f"{place}: {url} is a URL, and URLs are not followed: download it first"
        yield Item(url, url, reason="missing_image", detail=problem)


def _head(folder: Folder, name: str) -> bytes:
    try:
        return folder.read(name, HEAD_BYTES)
    except OSError:  # a link that leads nowhere, or what this user may not read
        return b""


def _notices(
    source: SourceConfig,
    names: list[str],
    images: list[str],
    absent: list[str],
    captions: Captions,
) -> Iterator[str]:
    known = captions.used.union(images)
    passed_over = Counter(extension(name) for name in names if name not in known)
    if passed_over:
        kinds = ", ".join(f"{n} {end or 'without'}" for end, n in passed_over.most_common())
        yield (
            f"source {source.path}: {passed_over.total()} files are passed over, by extension: "
            f"{kinds}; images are {_EXPECTED}"
        )
    if absent:
        yield (
            f"source {source.path}: {len(absent)} images of its metadata are not there (the "
            f"first: {absent[0]})"
        )
    if captions.urls:
        yield (
            f"source {source.path}: {len(captions.urls)} file names of its metadata are URLs, "
            f"which are not followed (the first: {next(iter(captions.urls))})"
        )

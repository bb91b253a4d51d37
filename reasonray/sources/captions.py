"""Captions of a folder's images: metadata files as `datasets`' ImageFolder has them, or a text
beside each image as trainers of adapters write it.

    metadata.jsonl, metadata.csv, metadata.parquet    in any folder: `file_name` relative to it, the
                                                      caption under text, caption or prompt
    a.txt or a.caption, beside a.jpg                  the caption of a.jpg
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.errors import UserError
from reasonray.sources.files import Folder
from reasonray.sources.names import Names, is_url, slashed

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
KEYS = ("text", "caption", "prompt")
"""Where a line's caption stands: the first of these that holds one, in any case."""

_DELIMITERS = ",;\t"
"""Of CSV; spreadsheets write a semicolon in countries whose numbers have a comma."""

_TEXT_ENDS = (".txt", ".caption")
_NUM_THREADS = 16


@dataclass
class Captions:
    """What a folder says of its images.

    Attributes:
        texts: image -> its caption; None where it is listed without one.
        urls: names in the metadata that are URLs -> where they stand.
        unreadable: image -> what is wrong with the text beside it.
        used: files that captions were read from.
    """

    texts: dict[str, str | None] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


def read_metadata(folder: Folder, files: Names, notices: list[str]) -> Captions:
    """What all metadata files below say; names are relative to the folder.

    Args:
        folder: of the images.
        files: all that lie below.
        notices: gets a sentence about lines without a caption that has words elsewhere.

    Raises:
        UserError: a file is malformed, lists an image twice, or has its captions under other keys.
    """
    captions = Captions()
    for name in sorted(files, key=lambda name: (name.count("/"), name)):
        parent, slash, base = name.rpartition("/")
        if base.lower() in METADATA:
            captions.used.add(name)
            _read_file(folder, files, name, f"{parent}{slash}", captions, notices)
    return captions


def add_texts(folder: Folder, files: Names, images: list[str], captions: Captions) -> None:
    """Add the captions that stand in a text beside an image that the metadata have none for."""
    texts = {}
    for image in images:
        stems = (image.rpartition(".")[0], image)
        beside = [text for stem in stems for end in _TEXT_ENDS if (text := files.find(stem + end))]
        if beside and captions.texts.get(image) is None:
            texts[image] = beside[0]
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        contents = threads.map(folder.read, texts.values())
        for (image, text), content in zip(texts.items(), contents, strict=True):
            try:
                caption = " ".join(content.decode("utf-8-sig").split())
            except UnicodeDecodeError as error:
                problem = f"{folder.uri(text)}: byte {error.start}: not UTF-8 text"
                captions.unreadable[image] = problem
                captions.used.add(text)
                continue
            # Numbers alone are a detector's boxes.
            if any(map(str.isalpha, caption)):
                captions.texts[image] = caption
                captions.used.add(text)


def _read_file(
    folder: Folder,
    files: Names,
    name: str,
    parent: str,
    captions: Captions,
    notices: list[str],
) -> None:
    uri = folder.uri(name)
    num_lines = num_captions = num_several = num_unfit = 0
    other_keys: Counter[str] = Counter()
    for place, line in _lines(folder, name):
        num_lines += 1
        listed = _file_name(line, place)
        if is_url(listed) and files.find(f"{parent}{listed}") is None:
            captions.urls[listed] = place
            continue
        within = f"{folder.root}/{parent}"
        relative = f"{parent}{slashed(listed.removeprefix(within))}"
        image = files.find(f"{parent}{listed}") or files.find(relative) or relative
        folder.path(image)  # complains of one that leads out
        if image in captions.texts:
            raise UserError(f"{place}: {listed} is listed twice; an image has one caption")
        candidates = _candidates(line, listed, place)
        if candidates is None:
            others = _other_texts(line)
            num_unfit += bool(others)
            other_keys.update(others)
        else:
            num_captions += 1
            num_several += len(candidates) > 1
        captions.texts[image] = candidates[0] if candidates else None
    if not num_lines:
        notices.append(f"{uri}: no image is listed in it")
    expected = f"{', '.join(KEYS[:-1])} or {KEYS[-1]}"
    keys = ", ".join(key for key, _ in other_keys.most_common())
    if num_unfit and not num_captions:
        raise UserError(
            f"{uri}: no captions in it: its keys are file_name, {keys}; expected {expected}; "
            "rename one, or take the file away to have the images captioned"
        )
    if num_unfit:
        notices.append(
            f"{uri}: {num_unfit} of {num_lines} lines have no caption under {expected} (but {keys})"
        )
    if num_several:
        notices.append(f"{uri}: {num_several} images have several captions; the first is used")


def _lines(folder: Folder, name: str) -> Iterator[tuple[str, Any]]:
    """Each entry of a metadata file, after the words for its place."""
    uri = folder.uri(name)
    kind = name.lower().rpartition(".")[2]
    if kind == "jsonl":
        for number, line in folder.read_json_lines(name):
            yield f"{uri}: line {number}", line
    elif kind == "csv":
        yield from _csv_lines(folder.read(name), uri)
    else:
        try:
            table = pq.read_table(io.BytesIO(folder.read(name)))
        except (pa.ArrowInvalid, OSError) as error:
            problem = str(error).splitlines()[0]
            raise UserError(f"{uri}: cannot be read as Parquet ({problem})") from error
        for number, line in enumerate(table.to_pylist()):
            yield f"{uri}: row {number}", line


def _csv_lines(content: bytes, uri: str) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        text = content.decode("utf-8-sig")
        delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
        lines = csv.DictReader(
            io.StringIO(text, newline=""), strict=True, delimiter=delimiter, skipinitialspace=True
        )
        header = lines.fieldnames or []
        for line in lines:
            place = f"{uri}: line {lines.line_num}"
            if None in line or None in line.values():
                raise UserError(
                    f"{place}: expected {len(header)} cells ({', '.join(header)}); a text with "
                    f"{delimiter!r} in it stands in quotes"
                )
            yield place, line
    except csv.Error as error:
        raise UserError(f"{uri}: not CSV ({error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{uri}: byte {error.start}: not UTF-8 text") from error


def _file_name(line: Any, place: str) -> str:
    name = _in_any_case(line).get("file_name") if isinstance(line, dict) else None
    if isinstance(name, str) and name.strip():
        return name
    seen = f" (it has {', '.join(map(str, line))})" if isinstance(line, dict) and line else ""
    raise UserError(f"{place}: expected an object with file_name{seen}")


def _candidates(line: dict[str, Any], listed: str, place: str) -> list[str] | None:
    """The captions under the first key that has one; None: there is no such key."""
    values = _in_any_case(line)
    if values.keys().isdisjoint(KEYS):
        return None
    for key in KEYS:
        value = values.get(key)
        texts = value if isinstance(value, list) else [value]
        texts = [text for text in texts if not (isinstance(text, float) and math.isnan(text))]
        if not all(text is None or isinstance(text, str) for text in texts):
            raise UserError(f"{place}: the caption of {listed} is no text: {value!r}")
        stripped = [" ".join(text.split()) for text in texts if text and text.strip()]
        if stripped:
            return stripped
    return []


def _in_any_case(line: dict[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in line.items()}


def _other_texts(line: dict[str, Any]) -> list[str]:
    """Keys under which words stand."""
    return [key for key, value in line.items() if key.lower() != "file_name" and _has_words(value)]


def _has_words(value: Any) -> bool:
    """Whether there are letters in a text, or in one of a list's or an object's."""
    if isinstance(value, dict | list):
        return any(map(_has_words, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and any(map(str.isalpha, value))

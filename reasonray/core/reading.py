"""The single reader of image bytes: follows the paths and URIs that a plan's rows hold.

A path, any fsspec URI, or a cell of a Parquet file, which holds the picture or says where it lies;
what is far away is read again when it fails.
"""

import base64
import binascii
import contextlib
import functools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from reasonray.core.errors import RunError
from reasonray.core.uris import is_local

_Read = TypeVar("_Read")

NUM_ATTEMPTS = 4
_FIRST_WAIT_S = 0.5

_IN_PARQUET = re.compile(
    r"(?P<file>.+\.parquet(?:::.+)?)#(?P<group>\d+)/(?P<row>\d+)/(?P<column>[^/]+)"
)

_CACHES = ("blockcache", "cached", "filecache", "simplecache")

# No picture fits into fewer characters, no path has more, no name in it.
_MIN_BASE64, _MAX_PATH, _MAX_NAME = 64, 1024, 255
_URL_SAFE = str.maketrans("-_", "+/")
_DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)

_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")


class NoImageError(FileNotFoundError):
    """A cell of a Parquet file leads to no image; its text says why."""


def file_name(uri: str) -> str | None:
    """The last part of an image's path; None for a cell of a Parquet file."""
    if _IN_PARQUET.fullmatch(uri):
        return None
    path = uri if is_local(uri) else chain(uri)[1]
    return path.rpartition("/")[2]


def printable(text: str) -> str:
    """The text as UTF-8 can hold it: a byte of a file name that is not UTF-8 becomes `\\udcXX`."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_bytes(uri: str) -> bytes:
    """The bytes of an image of the plan.

    Args:
        uri: as a reader gave it, made `printable` for the plan.

    Raises:
        FileNotFoundError: nothing is there; `NoImageError` where the Parquet cell is to blame.
        OSError: a local file cannot be read.
        pyarrow.ArrowInvalid: a Parquet file is damaged.
        RunError: a remote filesystem failed `NUM_ATTEMPTS` times: outside any row, so the run
            stops and can be resumed.
    """
    uri = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), uri)
    inside = _IN_PARQUET.fullmatch(uri)
    if inside:
        return _read_cell(
            inside["file"], int(inside["group"]), int(inside["row"]), inside["column"]
        )
    if is_local(uri):
        return Path(uri).read_bytes()
    return persistently(uri, lambda: _read_remote(uri))


def _read_remote(uri: str) -> bytes:
    filesystem, path = url_to_fs(uri)
    content: bytes = filesystem.cat_file(path)
    return content


def _read_cell(file: str, group: int, row: int, column: str) -> bytes:
    if is_local(file):
        status = Path(file).stat()
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        cells = _column(file, group, column, version)
    else:
        cells = persistently(file, lambda: _column(file, group, column))
    cell = cells[row].as_py() if row < len(cells) else None
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes) and cell:
        return cell
    if isinstance(cell, str) and cell:
        return _follow(cell, file)
    raise NoImageError(f"no image in {column}, the cell is empty")


def _follow(text: str, file: str) -> bytes:
    """The image that a cell's text stands for: a path beside the file, base64 or a data URI."""
    data_uri = _DATA_URI.match(text)
    if data_uri is not None:
        content = _base64(text[data_uri.end() :])
        if content is None:
            raise NoImageError("the cell holds a data URI that is no base64")
        return content
    if "://" in text:
        raise NoImageError(f"the cell holds a URL, {text[:200]}, and URLs are not followed")
    content = _read_beside(text, file) if len(text) <= _MAX_PATH else None
    if content is None and len(text) >= _MIN_BASE64:
        content = _base64(text)
    if content is None:
        raise NoImageError(
            f"the cell holds only a path, {text[:200]}, and no such file lies beside the Parquet "
            "file"
        )
    return content


def _base64(text: str) -> bytes | None:
    try:
        # Folded after 76 characters by some, without the padding by others.
        joined = "".join(text.split()).translate(_URL_SAFE)
        return base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _read_beside(name: str, file: str) -> bytes | None:
    """The content of a file below the folder of another; None: not there, or not below it."""
    before, link, after = ("", file, "") if is_local(file) else chain(file)
    folder = link.rpartition("/")[0]
    for each in dict.fromkeys((name, name.replace("\\", "/"))):
        relative = each.removeprefix(f"{folder}/").removeprefix("./")
        steps = relative.split("/")
        if relative.startswith("/") or ".." in steps or max(map(len, steps)) > _MAX_NAME:
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return read_bytes(f"{before}{folder}/{relative}{after}")
    return None


# Two: the input's and the edited image's column of the row group the run is at.
@functools.lru_cache(maxsize=2)
def _column(file: str, group: int, column: str, _version: tuple[int, ...] = ()) -> pa.ChunkedArray:
    """A row group's column; `_version` is another when a file of this machine is replaced."""
    filesystem, path = url_to_fs(file)
    with filesystem.open(path, "rb") as opened:
        return pq.ParquetFile(opened).read_row_group(group, columns=[column]).column(0)


def persistently(uri: str, read: Callable[[], _Read]) -> _Read:
    """Read from afar: what fails there is rarely the row's fault, and often gone a second later."""
    wait = _FIRST_WAIT_S
    for attempt in range(1, NUM_ATTEMPTS + 1):
        try:
            return read()
        except (FileNotFoundError, pa.ArrowInvalid):
            raise
        except Exception as error:  # each filesystem raises its own library's classes
            if attempt == NUM_ATTEMPTS:
                raise RunError(
                    f"{uri}: cannot be read after {attempt} attempts "
                    f"({type(error).__name__}: {error})"
                ) from error
        time.sleep(wait)
        wait *= 2
    raise AssertionError("the last attempt returns or raises")


def chain(uri: str) -> tuple[str, str, str]:
    """What stands before the item's own link of an fsspec URI, that link, and what follows it.

    Before it stand caches, which take their path from it; after it, where an archive lies:
    `simplecache::`, `zip://photos`, `::s3://bucket/photos.zip`.
    """
    before = ""
    link, mark, after = uri.partition("::")
    while mark and link.removesuffix("://") in _CACHES:
        before += f"{link}::"
        link, mark, after = after.partition("::")
    return before, link if "://" in link else f"{link}://", f"{mark}{after}"


def protocols(filesystem: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    """The names that a filesystem goes by, such as ("s3", "s3a")."""
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)

"""Folders and files, local or at any fsspec URI; the single reader of image bytes.

Readers list and parse through `Folder`; `read_bytes` follows the URIs they wrote into the plan.
"""

import functools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from reasonray.errors import RunError, UserError

_Read = TypeVar("_Read")

NUM_ATTEMPTS = 4
_FIRST_WAIT_S = 0.5

_IN_PARQUET = re.compile(
    r"(?P<file>.+\.parquet(?:::.+)?)#(?P<group>\d+)/(?P<row>\d+)/(?P<column>[^/]+)"
)

_CACHES = ("blockcache", "cached", "filecache", "simplecache")

_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")


@dataclass(frozen=True)
class Folder:
    """A folder on some filesystem; names below it are relative, with "/".

    Attributes:
        filesystem: of the address.
        root: the filesystem's own path of the folder.
        address: the path or URI as the user gave it.
    """

    filesystem: fsspec.AbstractFileSystem
    root: str
    address: str

    @classmethod
    def at(cls, uri: str) -> "Folder":
        """The folder at a path or URI.

        Raises:
            UserError: it does not exist, or its filesystem needs a package that is not installed.
        """
        try:
            filesystem, root = url_to_fs(str(Path(uri).expanduser()) if is_local(uri) else uri)
        except ImportError as error:
            raise UserError(f"source {uri}: {error}") from error
        except ValueError as error:
            raise UserError(f"source {uri}: no such kind of filesystem ({error})") from error
        root = root.rstrip("/") or root  # an archive's own is "", a disk's "/"
        if not filesystem.exists(root):
            raise UserError(f"source {uri}: there is no such folder")
        return cls(filesystem, root, uri)

    def path(self, name: str) -> str:
        """The filesystem's own path of a name below the folder.

        Raises:
            UserError: the name leads out of the folder.
        """
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            raise UserError(f"{self.address}: the file name {name} leads out of the folder")
        above = f"{self.root.rstrip('/')}/" if self.root else ""
        return f"{above}{name}" if name else self.root

    def uri(self, name: str = "") -> str:
        """What `read_bytes` and people are given: a plain path where it is local."""
        path = self.path(name)
        if "file" in _protocols(self.filesystem):
            return path
        if not name:
            return self.address
        # Not from the path: it has lost the host, the login and what an archive lies in.
        before, link, after = _chain(self.address)
        base = link.rstrip("/")
        # At the root the slashes are the protocol's: zip://::/data/photos.zip
        return f"{before}{link if base.endswith(':') else f'{base}/'}{name}{after}"

    def list(self, name: str = "") -> tuple[list[str], list[str]]:
        """Sub-folders and files in a folder below: names relative to the root, sorted.

        Hidden ones and what archives of a Mac leave are left out; links are followed, but for
        those of a local folder that lead back to a folder they are below.
        """
        folders: list[str] = []
        files: list[str] = []
        for info in self.filesystem.ls(self.path(name), detail=True):
            path = str(info["name"]).rstrip("/")
            base = path.rpartition("/")[2]
            if base.startswith(".") or base == "__MACOSX" or path == self.path(name):
                continue
            is_folder = info["type"] == "directory" or (
                info["type"] not in ("file", "directory") and self.filesystem.isdir(path)
            )
            (folders if is_folder else files).append(f"{name}/{base}" if name else base)
        return sorted(_without_loops(self, name, folders)), sorted(files)

    def walk(self, name: str = "") -> Iterator[str]:
        """All files below, folder by folder, each folder's own files first; sorted."""
        folders, files = self.list(name)
        yield from files
        for folder in folders:
            yield from self.walk(folder)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: it is not there.
        """
        content: bytes = self.filesystem.cat_file(self.path(name))
        return content

    def read_json(self, name: str) -> Any:
        """The content of a JSON file.

        Raises:
            UserError: it is not JSON; names the file, line and column.
            FileNotFoundError: it is not there.
        """
        return parse_json(self.read(name), self.uri(name))

    def read_json_lines(self, name: str) -> Iterator[tuple[int, Any]]:
        """Line number (from 1) and content of each line that is not empty.

        Raises:
            UserError: a line is not JSON; names the file, line and column.
        """
        with self.filesystem.open(self.path(name), "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, parse_json(line, self.uri(name), first_line=number)


def parse_json(content: bytes, name: str, first_line: int = 1) -> Any:
    """Parse JSON; a mistake in it is the user's, with its place."""
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        place = f"line {first_line + error.lineno - 1}, column {error.colno}"
        raise UserError(f"{name}: {place}: not JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: byte {error.start}: not UTF-8 text") from error


def summary(folder: Folder) -> str:
    """What a folder holds, in a few words, for messages."""
    folders, files = folder.list()
    names = [f"{name}/" for name in folders] + files
    if not names:
        return "an empty folder"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def is_local(uri: str) -> bool:
    """Whether it is a plain path."""
    return "://" not in uri


def file_name(uri: str) -> str | None:
    """The last part of an image's path; None for a cell of a Parquet file."""
    if _IN_PARQUET.fullmatch(uri):
        return None
    path = uri if is_local(uri) else _chain(uri)[1]
    return path.rpartition("/")[2]


def printable(text: str) -> str:
    """The text as UTF-8 can hold it: a byte of a file name that is not UTF-8 becomes `\\udcXX`."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_bytes(uri: str) -> bytes:
    """The bytes of an image of the plan.

    Args:
        uri: as a reader gave it, made `printable` for the plan.

    Raises:
        FileNotFoundError: nothing is there, or the Parquet cell is null.
        OSError: a local file cannot be read.
        pyarrow.ArrowInvalid: a Parquet file is damaged.
        RunError: a remote filesystem failed `NUM_ATTEMPTS` times: outside any row, so the run
            stops and can be resumed.
    """
    uri = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), uri)
    inside = _IN_PARQUET.fullmatch(uri)
    if inside:
        return _read_cell(
            inside["file"], int(inside["group"]), int(inside["row"]), inside["column"]
        )
    if is_local(uri):
        return Path(uri).read_bytes()
    return _persistently(uri, lambda: _read_remote(uri))


def _read_remote(uri: str) -> bytes:
    filesystem, path = url_to_fs(uri)
    content: bytes = filesystem.cat_file(path)
    return content


def _read_cell(file: str, group: int, row: int, column: str) -> bytes:
    if is_local(file):
        cells = _column(file, group, column)
    else:
        cells = _persistently(file, lambda: _column(file, group, column))
    cell = cells[row].as_py() if row < len(cells) else None
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise FileNotFoundError(f"{file}: row group {group}, row {row}: no bytes in {column}")
    return data


# Two: the input's and the edited image's column of the row group the run is at.
@functools.lru_cache(maxsize=2)
def _column(file: str, group: int, column: str) -> pa.ChunkedArray:
    filesystem, path = url_to_fs(file)
    with filesystem.open(path, "rb") as opened:
        return pq.ParquetFile(opened).read_row_group(group, columns=[column]).column(0)


def _persistently(uri: str, read: Callable[[], _Read]) -> _Read:
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
                    f"({type(error).__name__}: {error}); the same command continues the run"
                ) from error
        time.sleep(wait)
        wait *= 2
    raise AssertionError("the last attempt returns or raises")


def _chain(uri: str) -> tuple[str, str, str]:
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


def _without_loops(folder: Folder, name: str, below: list[str]) -> list[str]:
    """Those of its folders that are not, through a link, one on the way to `name` once more."""
    if not below or "file" not in _protocols(folder.filesystem):
        return below
    above = (name, *map(str, PurePosixPath(name).parents))
    walked = {os.path.realpath(folder.path(each)) for each in above}
    return [each for each in below if os.path.realpath(folder.path(each)) not in walked]


def _protocols(filesystem: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)

"""Folders and files, local or at any fsspec URI: what readers list and parse.

The URIs that they write into the plan are followed by `core.reading`.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from reasonray.core.errors import UserError
from reasonray.core.place import reached
from reasonray.core.reading import chain, protocols
from reasonray.core.uris import is_local

_DATA = re.compile(
    r"\.(zip|tar|tgz|gz|bz2|xz|zst|7z|rar|arrow|feather|tfrecords?|incomplete|part|crdownload)$"
    r"|\.parquet\b.|\.(?!parquet$)(?i:parquet)$",
    re.IGNORECASE,
)


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
    def at(cls, uri: str, name: str = "source") -> "Folder":
        """The folder at a path or URI.

        Args:
            uri: as the user gave it.
            name: what it is, for messages.

        Raises:
            UserError: it does not exist, or its filesystem needs a package that is not installed.
        """
        try:
            filesystem, root = url_to_fs(str(Path(uri).expanduser()) if is_local(uri) else uri)
        except ImportError as error:
            raise UserError(f"{name} {uri}: {error}") from error
        except ValueError as error:
            raise UserError(f"{name} {uri}: no such kind of filesystem ({error})") from error
        root = root.rstrip("/") or root  # an archive's own is "", a disk's "/"
        with reached(Path(uri) if is_local(uri) else uri, name):
            is_there = filesystem.exists(root)
        if not is_there:
            raise UserError(f"{name} {uri}: there is no such folder")
        return cls(filesystem, root, uri)

    def path(self, name: str) -> str:
        """The filesystem's own path of a name below the folder.

        Raises:
            UserError: the name leads out of the folder.
        """
        # By hand: a plan asks for each of some hundred thousand names.
        if name.startswith("/") or (".." in name and ".." in name.split("/")):
            raise UserError(f"{self.address}: the file name {name} leads out of the folder")
        above = f"{self.root.rstrip('/')}/" if self.root else ""
        return f"{above}{name}" if name else self.root

    def uri(self, name: str = "") -> str:
        """What `read_bytes` and people are given: a plain path where it is local."""
        path = self.path(name)
        if "file" in protocols(self.filesystem):
            return path
        if not name:
            return self.address
        # Not from the path: it has lost the host, the login and what an archive lies in.
        before, link, after = chain(self.address)
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

    def read(self, name: str, num_bytes: int | None = None) -> bytes:
        """The content of a file, or its first bytes.

        Raises:
            FileNotFoundError: it is not there.
        """
        content: bytes = self.filesystem.cat_file(self.path(name), end=num_bytes)
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
        problem = error.msg if content.strip() else "it is empty"
        raise UserError(f"{name}: {place}: not JSON ({problem})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: byte {error.start}: not UTF-8 text") from error
    except (ValueError, RecursionError) as error:  # a number, or brackets, without end
        raise UserError(f"{name}: not JSON that can be read ({error})") from error


def passed_over(address: str, files: Iterable[str]) -> Iterator[str]:
    """A sentence with a count about files that hold data and that are not read as they are.

    Archives that were not unpacked, downloads that broke off, a data set's other format.

    Args:
        address: of the source, for the sentence.
        files: names below it; those that end in .parquet are taken for read.
    """
    unread = [name for name in files if _DATA.search(name)]
    if unread:
        yield (
            f"source {address}: {len(unread)} files are passed over that are archives, broken-off "
            f"downloads or of another format (the first: {unread[0]})"
        )


def summary(folder: Folder) -> str:
    """What a folder holds, in a few words, for messages."""
    folders, files = folder.list()
    names = [f"{name}/" for name in folders] + files
    if not names:
        return "an empty folder"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def _without_loops(folder: Folder, name: str, below: list[str]) -> list[str]:
    """Those of its folders that are not, through a link, one on the way to `name` once more."""
    if not below or "file" not in protocols(folder.filesystem):
        return below
    above = (name, *map(str, PurePosixPath(name).parents))
    walked = {os.path.realpath(folder.path(each)) for each in above}
    return [each for each in below if os.path.realpath(folder.path(each)) not in walked]

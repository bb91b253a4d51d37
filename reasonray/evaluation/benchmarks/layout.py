"""Where a benchmark's files lie: found by the names that its lists have for them.

A folder, a URI of a store, or a data set of the hub, which is fetched. What lies in archives need
not be unpacked.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tarfile import TarError
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.errors import UserError
from reasonray.core.extras import explained
from reasonray.core.reading import read_bytes
from reasonray.core.uris import is_local
from reasonray.evaluation.benchmarks.entries import Entry
from reasonray.evaluation.items import Picture
from reasonray.sources.files import Folder, parse_json, summary
from reasonray.sources.names import slashed

_ARCHIVES = {".zip": "zip", ".tar": "tar", ".tar.gz": "tar", ".tgz": "tar"}

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")

_NAME = "benchmark"

_SPLITS = ("train", "validation", "dev", "test")


class Files:
    """A benchmark's files by the names that its lists have for them.

    Args:
        folder: in which they lie, at any depth.
        only: of a source that is one file: its name.
    """

    def __init__(self, folder: Folder, only: str | None = None) -> None:
        self.folder = folder
        self._only = only

    @classmethod
    def at(cls, path: str, hub_files: Sequence[str] | None = None) -> "Files":
        """The files at a folder, a `.parquet` file, a URI, or of a data set of the hub.

        Args:
            path: a hub's id is owner/name, where there is no such folder here.
            hub_files: patterns of the files to fetch from the hub; by default all.

        Raises:
            UserError: there is no such thing.
        """
        if is_local(path) and not Path(path).expanduser().exists() and _HUB_ID.fullmatch(path):
            return cls(Folder.at(_fetched(path, hub_files), _NAME))
        if path.endswith(".parquet"):
            parent, _, name = path.rpartition("/")
            return cls(Folder.at(parent or ".", _NAME), name)
        return cls(Folder.at(path, _NAME))

    def find(self, name: str) -> str | None:
        """The path or URI of the file that a name of the benchmark means.

        Lists name their files from some folder on, which one has moved or never unpacked: a file
        counts whose path ends like the name, of several the one that lies highest, and before what
        is in archives.

        Raises:
            UserError: two lie equally high.
        """
        name = slashed(name)
        for index in (self._loose, self._packed):
            like = index.get(name.rpartition("/")[2], [])
            fitting = [each for each in like if f"/{each[0]}".endswith(f"/{name}")]
            depths = sorted(path.count("/") for path, _ in fitting)
            if len(depths) > 1 and depths[0] == depths[1]:
                both = " or ".join(path for path, _ in fitting if path.count("/") == depths[0])
                raise UserError(f"{self.folder.address}: {name} may be {both}: keep one of them")
            if fitting:
                return min(fitting, key=lambda each: each[0].count("/"))[1]
        return None

    def picture(self, entry: Entry, name: str) -> Picture:
        """The picture that an entry names; one that is not there fails when it is opened.

        Raises:
            UserError: the name leads out of the folder.
        """
        try:
            return Picture(self.find(name) or self.folder.uri(slashed(name)))
        except UserError as error:
            raise UserError(f"{entry.where}: {error}") from error

    def read_json(self, *names: str) -> tuple[Any, str]:
        """The content of a JSON file and where it lies.

        Args:
            names: that it may have, the first that is there counts.

        Raises:
            UserError: there is none, or it is not JSON.
        """
        for name in names:
            uri = self.find(name)
            if uri is not None:
                return parse_json(read_bytes(uri), uri), uri
        raise UserError(
            f"{self.folder.address}: no {' or '.join(names)}; found {summary(self.folder)}"
        )

    def named(self, name: str) -> list[tuple[str, str]]:
        """Path in the folder and URI of every file of this last name, sorted.

        Raises:
            UserError: there is none.
        """
        same = self._loose.get(name) or self._packed.get(name)
        if not same:
            raise UserError(f"{self.folder.address}: no {name}; found {summary(self.folder)}")
        return sorted(same)

    def rows(self, split: str, columns: Mapping[str, bool]) -> Iterator[Entry]:
        """The rows of the Parquet files of a split, in the order of the files' names.

        Args:
            split: how their names begin; files that are named after no split at all count, too.
            columns: each and whether it holds pictures, which are not read here.

        Raises:
            UserError: there are none, one is damaged or lacks a column.
        """
        parquet = [
            (path, uri)
            for same in self._loose.values()
            for path, uri in same
            if path.endswith(".parquet")
        ]
        ours = [each for each in parquet if _split(each[0]) in (split, None)]
        if not ours:
            raise UserError(
                f"{self.folder.address}: no {split}*.parquet; found {summary(self.folder)}"
            )
        for path, uri in sorted(ours):
            yield from self._rows(path, uri, columns)

    def _rows(self, path: str, uri: str, columns: Mapping[str, bool]) -> Iterator[Entry]:
        try:
            with self.folder.filesystem.open(self.folder.path(path), "rb") as opened:
                file = pq.ParquetFile(opened)
                present = file.schema_arrow.names
                missing = [column for column in columns if column not in present]
                if missing:
                    raise UserError(
                        f"{uri}: no column {', '.join(missing)} (it has {', '.join(present)})"
                    )
                light = [column for column, is_picture in columns.items() if not is_picture]
                number = 0
                for group in range(file.num_row_groups):
                    rows = file.read_row_group(group, columns=light).to_pylist()
                    for index, row in enumerate(rows):
                        yield Entry(row, f"{uri} row {number}", f"{uri}#{group}/{index}")
                        number += 1
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(
                f"{uri}: cannot be read as Parquet ({str(error).splitlines()[0]})"
            ) from error

    @cached_property
    def _loose(self) -> dict[str, list[tuple[str, str]]]:
        """Path and URI of the files that lie there, by their last names."""
        names = [self._only] if self._only else self.folder.walk()
        return _by_last_name((name, self.folder.uri(name)) for name in names)

    @cached_property
    def _packed(self) -> dict[str, list[tuple[str, str]]]:
        """Those in archives, as if unpacked where the archive lies."""
        return _by_last_name(
            member
            for same in self._loose.values()
            for name, uri in same
            if (protocol := _protocol(name)) is not None
            for member in _members(name, uri, protocol)
        )


def _fetched(hub_id: str, patterns: Sequence[str] | None) -> str:
    """This machine's copy of a data set of the hub."""
    with explained():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    try:
        return str(
            snapshot_download(
                hub_id, repo_type="dataset", allow_patterns=list(patterns) if patterns else None
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{_NAME} {hub_id}: no such folder here, and the hub gives no such data set "
            f"({str(error).strip().splitlines()[0]})"
        ) from error


def _split(path: str) -> str | None:
    """The split that a Parquet file is of, by its own name or its folder's."""
    for part in reversed(path.split("/")):
        for split in _SPLITS:
            if re.match(rf"{split}\b|{split}_", part):
                return split
    return None


def _protocol(name: str) -> str | None:
    return next((_ARCHIVES[end] for end in _ARCHIVES if name.lower().endswith(end)), None)


def _members(name: str, uri: str, protocol: str) -> Iterator[tuple[str, str]]:
    above = name.rpartition("/")[0]
    try:
        archive = Folder.at(f"{protocol}://::{uri}")
        # By the archive's own index: some begin all names with "./".
        for member in archive.filesystem.find(""):
            path = member.removeprefix("./")
            yield f"{above}/{path}" if above else path, archive.uri(member)
    except (zipfile.BadZipFile, TarError, OSError) as error:
        raise UserError(f"{uri}: cannot be read as an archive ({error})") from error


def _by_last_name(pairs: Iterator[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    index: dict[str, list[tuple[str, str]]] = {}
    for path, uri in pairs:
        index.setdefault(path.rpartition("/")[2], []).append((path, uri))
    return index

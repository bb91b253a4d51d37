"""Where outputs lie: a folder of this machine, or the same on an object store, named by a URI.

A folder is a `pathlib.Path`, a URI of a store a `upath.UPath`: both are joined with `/`, read and
written by the same methods. Here is what the two do not do alike, or not safely. Endpoint and keys
come from the environment, as each store's own tools read them (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_CONNECTION_STRING, …).
"""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from upath import UPath

from reasonray.core.errors import RunError, UserError
from reasonray.core.uris import is_local

Place = Path | UPath

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_EXTRAS = {"s3fs": "s3", "gcsfs": "gcs", "adlfs": "azure"}

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NUM_CREATES = 5

_OF_STORES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs")
"""Packages whose own exceptions a store's failures are."""


def place(text: str | Place, name: str = "output") -> Place:
    """What a user's folder or URI means, whatever folder this process is in later.

    Args:
        text: a folder, or a URI of s3, gs, az, abfs or file.
        name: of the option, for messages.

    Raises:
        UserError: a URI of another kind, without a bucket, or whose package is not installed.
    """
    if not isinstance(text, str):
        return text if isinstance(text, UPath) else text.expanduser().absolute()
    if is_local(text):
        return Path(text).expanduser().absolute()
    scheme, _, rest = text.partition("://")
    if scheme == "file":
        if not rest.startswith("/"):
            raise UserError(f"{name} {text}: expected file:///FOLDER, with three slashes")
        return Path(unquote(rest))
    if scheme not in _PACKAGES:
        raise UserError(
            f"{name} {text}: expected a folder or a URI of {', '.join(_PACKAGES)} or file, "
            f"not {scheme}"
        )
    if not rest.strip("/"):
        raise UserError(f"{name} {text}: expected {scheme}://BUCKET/FOLDER")
    package = _PACKAGES[scheme]
    if find_spec(package) is None:
        raise UserError(
            f"{name} {text}: the package {package} is not installed; it comes with the extra "
            f"{_EXTRAS[package]}: pip install 'reasonray[{_EXTRAS[package]}]'"
        )
    # What others write at this moment is seen only without a cache.
    uri: UPath = UPath(text.rstrip("/"), use_listings_cache=False)
    return uri


@contextlib.contextmanager
def reached(path: Place | str, name: str = "output") -> Iterator[None]:
    """Have what a store refuses or fails in said in one line; a folder's errors pass as they are.

    Raises:
        UserError: no such bucket, no credentials, or not allowed.
        RunError: anything else that a store raises, after its many attempts.
    """
    try:
        yield
    except Exception as error:
        if isinstance(path, Path) or not _is_a_store_s(error):
            raise
        raise _refusal(path, name, error) from error


def make_folder(path: Place) -> None:
    """See to it that files can be written below a path; a store needs nothing, least a bucket."""
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)


def create(path: Place, content: bytes) -> bool:
    """Write a file, whole, only if there is none of its name.

    Args:
        path: whose folder is there.
        content: different from what anybody else would write, so that ours is known again.

    Returns:
        Whether it was us: of many that try at once it is one.
    """
    if isinstance(path, Path):
        return _create_here(path, content)
    for _ in range(_NUM_CREATES):
        try:
            path.fs.pipe_file(path.path, content, mode="create")
        except FileExistsError:
            # An attempt that the store did, and whose answer was lost, was repeated in vain.
            return path.read_bytes() == content
        except OSError as error:
            if "ConditionalRequestConflict" not in str(error):
                raise
        else:
            return True
    return path.exists() and path.read_bytes() == content


def written(path: Place) -> float:
    """When a file was last written, in seconds of the clock of where it lies.

    Raises:
        FileNotFoundError: there is none.
    """
    if isinstance(path, Path):
        return path.stat().st_mtime
    return float(path.fs.modified(path.path).timestamp())


def age(path: Place) -> float:
    """Seconds since a file was written, by the clock of where it lies alone.

    Raises:
        FileNotFoundError: there is none.
    """
    probe = path.with_name(f".clock-{uuid.uuid4().hex}")
    probe.write_bytes(b"")
    try:
        return written(probe) - written(path)
    finally:
        remove(probe)


def files(folder: Place, suffix: str = "") -> list[Place]:
    """All files below a folder, as they are now, sorted; none where there is no folder.

    Args:
        folder: looked through to any depth.
        suffix: how their names end.
    """
    if isinstance(folder, Path):
        return sorted(path for path in folder.rglob(f"*{suffix}") if path.is_file())
    return [folder / name for name in sorted(_below(folder)) if name.endswith(suffix)]


def names(folder: Place) -> list[str]:
    """What lies in a folder itself, files and folders, sorted; nothing where there is none."""
    try:
        if isinstance(folder, Path):
            return sorted(path.name for path in folder.iterdir())
        listed = folder.fs.ls(folder.path, detail=False)
    except FileNotFoundError:
        return []
    base = folder.path.rstrip("/") + "/"
    inside = (path.rstrip("/") for path in listed)
    return sorted(path.removeprefix(base) for path in inside if path.startswith(base))


def versions(folder: Place) -> list[tuple[str, int, int | str]]:
    """All files below a folder: names in it, sizes, and what changes when they do; sorted.

    On this machine that is the time of the last change, on a store the content's tag.
    """
    if isinstance(folder, Path):
        return [
            (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
    return sorted(
        (name, info["size"], str(info.get("ETag") or info.get("etag")))
        for name, info in _below(folder).items()
    )


def _below(folder: UPath) -> dict[str, dict[str, Any]]:
    """What a store says of each file below a folder, by its name in it.

    Consoles and mounted buckets mark folders by empty objects, which are no files.
    """
    base = folder.path.rstrip("/") + "/"
    return {
        path.removeprefix(base): info
        for path, info in folder.fs.find(folder.path, detail=True).items()
        if path.startswith(base) and not info["name"].endswith("/") and info["type"] == "file"
    }


def remove(path: Place) -> None:
    """Delete a file or a folder with all in it, if it is there."""
    if not isinstance(path, Path):
        with contextlib.suppress(FileNotFoundError):
            path.fs.rm(path.path, recursive=True)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def arrow(path: Place) -> tuple[pa.fs.FileSystem, str]:
    """A file system for Arrow, Ray Data and Ray Train, and the path in it; may be pickled."""
    if isinstance(path, Path):
        return pa.fs.LocalFileSystem(), str(path)
    return pa.fs.PyFileSystem(_StoreHandler(path.fs)), path.path


def parquet(path: Place) -> pq.ParquetFile:
    """Open a Parquet file; of a store only what is asked for is read.

    Raises:
        pyarrow.ArrowInvalid: it is damaged; names it.
    """
    filesystem, name = arrow(path)
    # A buffer, so that a column of pictures is not held twice, as read and as Arrow has it.
    options = {"pre_buffer": False, "buffer_size": 2**20} if isinstance(path, Path) else {}
    try:
        return pq.ParquetFile(name, filesystem=filesystem, **{"pre_buffer": True, **options})
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"{path}: {error}") from error


@contextlib.contextmanager
def undamaged(path: Place, remedy: str) -> Iterator[None]:
    """Have it said in one line that a Parquet file cannot be read.

    Args:
        path: of the file.
        remedy: ends the message, without a full stop.

    Raises:
        UserError: it is damaged; anything else passes.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # Of what it could not make sense of Arrow raises errors without a number.
        if not isinstance(error, pa.ArrowException) and error.errno is not None:
            raise
        problem = str(error).removeprefix(f"{path}: ").splitlines()[0]
        raise UserError(f"{path}: damaged ({problem}); {remedy}") from error


def read_json(path: Place) -> dict[str, Any]:
    """A JSON object of our own.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); it cannot be gone on with") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (no object); it cannot be gone on with")
    return content


class _StoreHandler(pa.fs.FSSpecHandler):  # type: ignore[misc]
    """Arrow's view of a store, without what would be dear or wrong there."""

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: there are no folders, and fsspec would make a bucket."""

    def move(self, src: str, dest: str) -> None:
        # `mv` looks for a folder of the name first.
        self.fs.cp_file(src, dest)
        self.fs.rm_file(src)

    def open_input_file(self, path: str) -> pa.PythonFile:
        # Arrow asks for the ranges that it needs; fsspec would read 50 MB on from each.
        return pa.PythonFile(self.fs.open(path, mode="rb", cache_type="none"), mode="r")


def _create_here(path: Path, content: bytes) -> bool:
    whole = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with whole.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(whole, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # As on some mounted buckets.
            with path.open("xb") as file:
                try:
                    file.write(content)
                    file.flush()
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
    except FileExistsError:
        return False
    finally:
        whole.unlink(missing_ok=True)
    return True


def _is_a_store_s(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return False  # of the disk that something is copied to
    roots = {each.__module__.partition(".")[0] for each in type(error).__mro__}
    return isinstance(error, OSError | TimeoutError) or not roots.isdisjoint(_OF_STORES)


def _refusal(path: UPath | str, name: str, error: Exception) -> UserError | RunError:
    kind, text = type(error).__name__, " ".join(str(error).split())
    bucket = str(path).rpartition("://")[2].partition("/")[0]
    if isinstance(error, FileNotFoundError):
        return UserError(
            f"{name} {path}: not there ({text}); is there a bucket {bucket}? It must be made first"
        )
    if "Credential" in kind or "ClientAuthentication" in kind:
        return UserError(
            f"{name} {path}: no valid credentials ({text}); give them in the environment, as the "
            "store's own tools read them, on all machines"
        )
    if isinstance(error, PermissionError):
        return UserError(
            f"{name} {path}: not allowed ({text}); the credentials of the environment must be let "
            f"read, write, list and delete in {bucket}"
        )
    return RunError(f"{name} {path}: the store fails ({kind}: {text})")

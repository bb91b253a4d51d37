"""Copies of a store's folders on this machine, for libraries that read folders only.

Each is fetched once, by one of a machine's processes, and named by what it is a copy of: what has
changed on the store is fetched anew. They lie in `REASONRAY_CACHE`, or where the user's caches are,
and may be deleted whenever nothing runs.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from upath import UPath

from reasonray.core.errors import RunError, UserError
from reasonray.core.place import Place, reached, versions
from reasonray.core.writing import out_of_space

CACHE = "REASONRAY_CACHE"
"""The environment variable that says where copies lie."""


def local(folder: Place, name: str = "model", files: Sequence[str] | None = None) -> Path:
    """A folder as one of this machine: itself, or a copy of a store's.

    Args:
        folder: one of a store is fetched, unless there is a copy of all its files as they are now.
        name: what it is, for messages.
        files: only these of it, by their names in it; by default all.

    Raises:
        UserError: nothing is there, or the store does not let us.
        RunError: the store fails, or there is no space left for the copy.
    """
    if isinstance(folder, Path):
        return folder
    with reached(folder, name):
        there = [file for file in versions(folder) if files is None or file[0] in files]
    if not there:
        raise UserError(f"{name} {folder}: nothing is there")
    content = json.dumps([str(folder), there]).encode()
    digest = hashlib.sha256(content).hexdigest()[:16]
    copy = cache_folder() / f"{folder.name}-{digest}"
    try:
        with _alone(copy):
            if not copy.exists():
                _fetch(folder, [file[0] for file in there], copy, name)
    except OSError as error:
        raise _unusable(copy.parent, error) from error
    return copy


def cache_folder() -> Path:
    """Where copies lie on this machine."""
    if where := os.environ.get(CACHE):
        return Path(where).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser().absolute() / "reasonray"


def _fetch(folder: UPath, names: Sequence[str], copy: Path, name: str) -> None:
    """Whole or not at all; what a killed process has left is taken away first."""
    unfinished = copy.with_name(f".{copy.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    targets = [unfinished / each for each in names]
    for parent in {target.parent for target in targets}:
        parent.mkdir(parents=True, exist_ok=True)
    try:
        with reached(folder, name):
            sources = [(folder / each).path for each in names]
            folder.fs.get(sources, [str(target) for target in targets])
        unfinished.rename(copy)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def _alone(copy: Path) -> Iterator[None]:
    """Hold a copy's name on this machine, waiting for who does."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with copy.with_name(f".{copy.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unusable(cache: Path, error: OSError) -> UserError | RunError:
    if out_of_space(error):
        return RunError(f"{cache}: no space left for a copy; free some, or set {CACHE}")
    return UserError(f"{cache}: no copy can be kept there ({error.strerror}); set {CACHE}")

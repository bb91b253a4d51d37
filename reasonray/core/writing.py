"""How files get to their place: whole or not at all, and what is said when they cannot."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reasonray.core.errors import RunError, UserError
from reasonray.core.place import Place, remove


def absolute(folder: str | Path, name: str = "output") -> Path:
    """A folder to write to, from whatever place and home it was given.

    Args:
        folder: as given.
        name: in the message.

    Raises:
        UserError: it is a URI.
    """
    if "://" in str(folder):
        raise UserError(
            f"{name} {folder}: must be a folder (on a cluster: of storage that all nodes mount), "
            "not a URI"
        )
    return Path(folder).expanduser().absolute()


def write_file(path: Place, content: str | bytes) -> None:
    """Write a whole file or nothing."""
    whole = content.encode() if isinstance(content, str) else content
    if not isinstance(path, Path):
        path.write_bytes(whole)  # which a store shows when it has all of it
        return
    with replaced(path) as temporary:
        temporary.write_bytes(whole)


@contextlib.contextmanager
def replaced(path: Place, *, sync: bool = True) -> Iterator[Path]:
    """Give a path on this machine to write to, which takes the place of a file if all goes well.

    Args:
        path: of the file, as before if the block fails.
        sync: have it on the disk, to outlive the machine and not only the process; takes about
            10 ms.
    """
    if not isinstance(path, Path):
        with tempfile.TemporaryDirectory(prefix="reasonray-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            path.fs.put_file(str(temporary), path.path)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        if sync:
            synchronise(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        synchronise(path.parent)


def publish(folder: Path, target: Place) -> None:
    """Put a finished folder in its place, instead of what is there.

    Args:
        folder: on this machine; moved, its files on the disk first, or sent to a store, file by
            file, and deleted.
        target: where it is to be.
    """
    if not isinstance(target, Path):
        remove(target)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                target.fs.put_file(str(path), (target / name).path)
        shutil.rmtree(folder)
        return
    for path in folder.rglob("*"):
        if path.is_file():
            synchronise(path)
    synchronise(folder)
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)
    synchronise(target.parent)


def out_of_space(error: BaseException) -> bool:
    """Whether a write failed because the disk, a quota or a file limit is full."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, OSError) and error.errno in codes


def unusable(output: Place, error: OSError) -> UserError:
    """What is said of a folder that cannot be made or written."""
    return UserError(
        f"output {output}: cannot be used ({error.strerror}); give a folder that can be written"
    )


def no_space(output: Place) -> RunError:
    """What is said of a full disk."""
    return RunError(f"output {output}: no space left; free some, finished rows are kept")


def synchronise(path: Path) -> None:
    """Wait until a file's content, or a folder's list, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

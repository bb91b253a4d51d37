"""How files get to the disk: whole or not at all, and what is said when they cannot."""

import errno
import os
import shutil
from pathlib import Path

from reasonray.core.errors import RunError, UserError


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


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def publish(made: Path, target: Path) -> None:
    """Put a finished folder in its place, its files on the disk first."""
    for path in made.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_folder(made)
    shutil.rmtree(target, ignore_errors=True)
    made.rename(target)
    _sync_folder(target.parent)


def out_of_space(error: BaseException) -> bool:
    """Whether a write failed because the disk, a quota or a file limit is full."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, OSError) and error.errno in codes


def unusable(output: Path, error: OSError) -> UserError:
    """What is said of a folder that cannot be made or written."""
    return UserError(
        f"output {output}: cannot be used ({error.strerror}); give a folder that can be written"
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def no_space(output: Path) -> RunError:
    """What is said of a full disk."""
    return RunError(f"output {output}: no space left; free some, finished rows are kept")

"""How files get to their place: whole or not at all, and what is said when they cannot."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from reasonray.core.errors import RunError, UserError
from reasonray.core.place import Place, make_folder, reached, remove

_SMALL_BYTES, _AT_ONCE = 2**24, 32


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
            try:
                yield temporary
            except OSError as error:
                if out_of_space(error):
                    raise RunError(
                        f"{tempfile.gettempdir()} on machine {os.uname().nodename}: no space left "
                        f"for what is sent to {path}; free some, or set TMPDIR"
                    ) from error
                raise
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


def write_table(path: Place, table: pa.Table, **options: Any) -> None:
    """Write a whole Parquet file or nothing, with the folders above it.

    Args:
        path: of the file.
        table: its rows.
        options: of `pyarrow.parquet.write_table`.
    """
    make_folder(path.parent)
    with replaced(path) as temporary:
        pq.write_table(table, temporary, **options)


@contextlib.contextmanager
def filled(target: Place, last: str) -> Iterator[Path]:
    """Give a new folder on this machine to fill, which takes another's place if all goes well.

    Args:
        target: where it is to be; as before if the block fails.
        last: the file in it that says that all the others are there, as a store has no folders
            that could be moved to their place.

    Raises:
        UserError: it cannot be made there.
        RunError: a store fails.
    """
    if isinstance(target, Path):
        above, temporary = None, target.with_name(f".{target.name}.{os.getpid()}")
    else:
        above = Path(tempfile.mkdtemp(prefix="reasonray-"))
        temporary = above / target.name
    try:
        try:
            shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had our number
            temporary.mkdir(parents=True)
        except OSError as error:
            if out_of_space(error):
                raise
            raise unusable(target, error) from error
        yield temporary
        with reached(target):
            publish(temporary, target, last)
    finally:
        shutil.rmtree(above or temporary, ignore_errors=True)


def publish(folder: Path, target: Place, last: str | None = None) -> None:
    """Put a finished folder in its place, instead of what is there.

    Args:
        folder: on this machine; moved, its files on the disk first, or sent to a store and deleted.
        target: where it is to be.
        last: a file of it that a store gets when it has all others, and loses first.
    """
    if not isinstance(target, Path):
        if last is not None:
            remove(target / last)
        remove(target)
        names = [
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        ]
        send(folder, target, [name for name in names if name != last])
        send(folder, target, [name for name in names if name == last])
        shutil.rmtree(folder)
        return
    for path in folder.rglob("*"):
        if path.is_file():
            synchronise(path)
    synchronise(folder)
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)
    synchronise(target.parent)


def send(folder: Path, target: UPath, names: Sequence[str]) -> None:
    """Copy files of a folder to a store; small ones many at a time, as each waits for an answer.

    Args:
        folder: on this machine.
        target: on the store.
        names: of the files in both.
    """
    pairs = [(folder / name, (target / name).path) for name in names]
    small = [pair for pair in pairs if pair[0].stat().st_size <= _SMALL_BYTES]
    if small:
        sources, targets = [str(path) for path, _ in small], [path for _, path in small]
        target.fs.put(sources, targets, batch_size=_AT_ONCE)
    for path, name in pairs:
        if path.stat().st_size > _SMALL_BYTES:
            # In parts by itself, of which each stands in memory.
            target.fs.put_file(str(path), name)


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


@contextlib.contextmanager
def space_checked(output: Place) -> Iterator[None]:
    """Have a full disk said in one line.

    Raises:
        RunError: it is full; all else passes.
    """
    try:
        yield
    except OSError as error:
        if out_of_space(error):
            raise no_space(output) from error
        raise


def synchronise(path: Path) -> None:
    """Wait until a file's content, or a folder's list, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

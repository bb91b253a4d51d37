"""`DIR/.run`: what a run keeps while it goes, so that it can be killed and started again.

    lock                    held by the one run that may write here
    recipe.yaml             the recipe as run, with sources and parts; another one is refused
    plan/*.parquet          one light row for each thing to do
    divergence.json         the rank form's threshold, once found
    measuring/              counts of the pass that finds it
    work-<n>/rows/          finished rows, in `status=accepted` and `status=rejected`
    work-<n>/checkpoint/    their ids: a row counts when its id stands here
    attempts/, progress/    of the pools' processes (`reasonray.pool`, `reasonray.progress`)

Each start renames work-<n> to work-<n+1>: a process of a killed run that still writes finds its
folder gone and cannot commit. Knows nothing of Ray, models or what a row means.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from reasonray.core.errors import UserError
from reasonray.core.recipe import Recipe
from reasonray.core.record import PLAN_SCHEMA, Row, to_table
from reasonray.core.writing import absolute, out_of_space, publish, unusable, write_file

HEARTBEAT_S = 10.0
STALE_S = 60.0
"""A lock of another host is dead after so long without a heartbeat."""

_PLAN_FILE_ROWS = 50_000
_PLAN_CHUNK_ROWS = 1_000


class Workspace:
    """The `.run` folder of one output folder."""

    def __init__(self, output: str | Path) -> None:
        """Nothing is touched yet.

        Raises:
            UserError: the output is a URI, a folder that holds something else, or out of reach.
        """
        self.output = absolute(output)
        self.folder = self.output / ".run"
        self.session = f"{time.time_ns():x}"
        try:
            self._refuse_a_stranger()
        except OSError as error:
            raise unusable(self.output, error) from error

    @property
    def plan_folder(self) -> Path:
        """Where the plan's Parquet files lie, once written."""
        return self.folder / "plan"

    @property
    def attempts_folder(self) -> Path:
        """Where this run's pool processes note the rows they have in hand."""
        return self.folder / "attempts" / self.session

    @property
    def progress_folder(self) -> Path:
        """Where this run's pool processes keep their counts."""
        return self.folder / "progress" / self.session

    @property
    def measuring_folder(self) -> Path:
        """Where the processes of the rank form's first pass keep their counts."""
        return self.folder / "measuring" / self.session

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the output for this process.

        Raises:
            UserError: another run holds it, or it cannot be made or written.
        """
        path = self.folder / "lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = _take(path, self.output)
        except OSError as error:
            if out_of_space(error):
                raise
            raise unusable(self.output, error) from error
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_S):
                # A file system that is full or away for a moment is for the run itself to find.
                with contextlib.suppress(OSError):
                    os.utime(path)

        heart = threading.Thread(target=beat, name="reasonray-lock", daemon=True)
        heart.start()
        try:
            yield
        finally:
            stop.set()
            heart.join()
            with contextlib.suppress(OSError):
                path.unlink()
                self.folder.rmdir()  # nothing is left in it once the output is complete
            os.close(descriptor)

    def recipe(self) -> dict[str, Any] | None:
        """The recipe that the plan was made with, or None."""
        path = self.folder / "recipe.yaml"
        if not path.exists():
            return None
        content: dict[str, Any] = yaml.safe_load(path.read_text())
        return content

    def write_plan(self, recipe: Recipe, rows: Iterable[Row]) -> int:
        """Keep the rows to do, and the recipe; gives their number.

        The parts are interleaved, so that all pools have work from the start; within a part
        rows stand by id.

        Raises:
            UserError: no rows, or two of one id.
        """
        table = _planned(rows)
        if table.num_rows == 0:
            raise UserError(
                f"no inputs found for parts {', '.join(recipe.parts)} in the sources "
                + ", ".join(f"{source.format}={source.path}" for source in recipe.sources)
            )
        made = self.folder / "plan.making"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        for index, start in enumerate(range(0, table.num_rows, _PLAN_FILE_ROWS)):
            pq.write_table(
                table.slice(start, _PLAN_FILE_ROWS),
                made / f"{index:05}.parquet",
                row_group_size=_PLAN_CHUNK_ROWS,
            )
        content = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
        write_file(self.folder / "recipe.yaml", content)
        publish(made, self.plan_folder)
        return int(table.num_rows)

    def planned_ids(self) -> pa.Array:
        """Every planned id, sorted."""
        table = pq.read_table(self.plan_folder, columns=["id"])
        ids = table.column("id").combine_chunks()
        return ids.take(pc.sort_indices(ids))

    def planned_parts(self) -> dict[str, int]:
        """How many rows each part has in the plan."""
        counts = pc.value_counts(pq.read_table(self.plan_folder, columns=["part"])["part"])
        return {str(c["values"]): int(c["counts"]) for c in counts.to_pylist()}

    def open_work(self) -> "Work":
        """This run's folder of finished rows, with what earlier runs finished in it.

        Earlier runs' processes are cut off, what they had not committed is deleted.
        """
        folders = sorted(self.folder.glob("work-*"))
        current = folders[-1] if folders else None
        for stray in folders[:-1]:
            shutil.rmtree(stray, ignore_errors=True)
        number = int(current.name.removeprefix("work-")) + 1 if current else 1
        fresh = self.folder / f"work-{number:06}"
        if current:
            current.rename(fresh)
        work = Work(fresh)
        work.rows.mkdir(parents=True, exist_ok=True)
        work.checkpoint.mkdir(exist_ok=True)
        work.repair()
        for name in ("attempts", "progress", "measuring"):
            (self.folder / name).mkdir(exist_ok=True)
        for stray in (self.folder / "attempts").iterdir():
            # Only this run's count: a row in hand when a whole run was killed has not crashed.
            shutil.rmtree(stray, ignore_errors=True)
        self.attempts_folder.mkdir()
        self.progress_folder.mkdir()
        self.measuring_folder.mkdir()
        return work

    def remove(self) -> None:
        """Delete everything but the lock, which goes with its holder."""
        for path in self.folder.iterdir():
            if path.name == "lock":
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()

    def _refuse_a_stranger(self) -> None:
        if self.output.exists() and not self.output.is_dir():
            raise UserError(f"output {self.output}: is a file, not a folder")
        if not self.folder.exists() and self.output.exists():
            strangers = sorted(path.name for path in self.output.iterdir())
            if strangers and "manifest.json" not in strangers:
                raise UserError(
                    f"output {self.output}: holds {strangers[0]} and is no output of reasonray; "
                    "give a new or empty folder"
                )


class Work:
    """Finished rows and the ids that count as finished."""

    def __init__(self, folder: Path) -> None:
        self.rows = folder / "rows"
        self.checkpoint = folder / "checkpoint"

    def committed(self) -> dict[str, Path]:
        """Checkpoint files by the prefix that their data files share."""
        found = self.checkpoint.glob("*.parquet")
        return {p.stem: p for p in found if not p.stem.endswith(".pending")}

    def data_files(self) -> dict[Path, str]:
        """Data files and the prefix each was written under."""
        return {p: p.stem.rsplit("-", 1)[0] for p in sorted(self.rows.glob("status=*/*.parquet"))}

    def committed_files(self) -> list[Path]:
        """The data files that count."""
        committed = self.committed()
        return [path for path, prefix in self.data_files().items() if prefix in committed]

    def num_committed(self) -> int:
        """Rows finished and committed."""
        return sum(pq.read_metadata(path).num_rows for path in self.committed().values())

    def repair(self) -> None:
        """Drop data without a commit, and commits whose files are damaged or lost.

        Their rows are simply made again; a file can be damaged by a disk that was full or a
        machine that lost power.
        """
        for pending in self.checkpoint.glob("*.pending.parquet"):
            pending.unlink()
        files: dict[str, list[Path]] = {}
        for path, prefix in self.data_files().items():
            files.setdefault(prefix, []).append(path)
        for prefix, mark in self.committed().items():
            if not _is_whole(mark, files.get(prefix, [])):
                mark.unlink()
        committed = self.committed()
        for prefix, paths in files.items():
            if prefix not in committed:
                for path in paths:
                    path.unlink()


def _planned(rows: Iterable[Row]) -> pa.Table:
    chunks, chunk = [], []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _PLAN_CHUNK_ROWS:
            chunks.append(to_table(chunk, PLAN_SCHEMA))
            chunk = []
    chunks.append(to_table(chunk, PLAN_SCHEMA))
    table = pa.concat_tables(chunks).combine_chunks()
    table = table.take(pc.sort_indices(table["id"]))
    ids = table["id"]
    if table.num_rows > 1:
        same = pc.equal(ids.slice(1), ids.slice(0, table.num_rows - 1))
        if pc.any(same).as_py():
            twice = ids[pc.index(same, True).as_py()].as_py()
            raise UserError(f"two inputs have the same id {twice}; give each source once")
    places = pa.array(_places(table["part"].to_pylist()), pa.float64())
    return table.take(pc.sort_indices(places))


def _places(parts: list[str]) -> list[float]:
    """Where each row stands between 0 and 1, the rows of each part evenly spread."""
    totals = {part: parts.count(part) for part in set(parts)}
    seen = dict.fromkeys(totals, 0)
    places = []
    for part in parts:
        places.append((seen[part] + 0.5) / totals[part])
        seen[part] += 1
    return places


def _is_whole(mark: Path, files: list[Path]) -> bool:
    try:
        num_marked = pq.read_metadata(mark).num_rows
        return bool(num_marked == sum(pq.read_metadata(path).num_rows for path in files))
    except (pa.ArrowInvalid, OSError):
        return False


def _take(path: Path, output: Path) -> int:
    """The lock file's descriptor, locked and signed."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                break
            os.close(descriptor)  # its holder has just removed it
        except OSError as error:
            holder = _holder(descriptor)
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.EOPNOTSUPP):
                os.close(descriptor)
                raise UserError(_in_use(output, holder)) from error
            break  # no locks on this file system: the heartbeat alone decides
    holder = _holder(descriptor)
    # flock may end at this machine; a holder elsewhere shows by its heartbeat.
    if holder and holder["host"] != _host():
        silent_s = time.time() - os.fstat(descriptor).st_mtime
        if silent_s < STALE_S:
            os.close(descriptor)
            raise UserError(_in_use(output, holder))
    signed = {"host": _host(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(signed).encode(), 0)
    return descriptor


def _holder(descriptor: int) -> dict[str, Any] | None:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
    return content if isinstance(content, dict) and "host" in content else None


def _in_use(output: Path, holder: dict[str, Any] | None) -> str:
    who = ""
    if holder:
        who = f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    return (
        f"output {output}: another run is writing here{who}; "
        "wait for it, or stop it and start again to go on where it was"
    )


def _host() -> str:
    return socket.gethostname()

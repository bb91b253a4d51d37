"""`DIR/.run`: what a run keeps while it goes, so that it can be killed and started again.

    lock                    held by the one run that may write here
    recipe.yaml             the recipe as run, with sources and parts; another one is refused
    sources/                what sources write for themselves (the mini world's pictures)
    plan/*.parquet          one light row for each thing to do
    candidates.parquet      with `accepted`: all rows there are, in the order they are planned in
    notices.json            what the user was told of the inputs before the start
    divergence.json         the rank form's threshold, once found
    measuring/              counts of the pass that finds it
    work-<n>/rows/          finished rows, in `status=accepted` and `status=rejected`
    work-<n>/checkpoint/    their ids: a row counts when its id stands here
    attempts/, progress/    of the pools' processes (`journal`, `counts`)

Each start renames work-<n> to work-<n+1>: a process of a killed run that still writes finds its
folder gone and cannot commit. Knows nothing of Ray, models or what a row means.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from reasonray.core.errors import UserError
from reasonray.core.lock import locked
from reasonray.core.writing import absolute, replaced, unusable


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
    def candidates_file(self) -> Path:
        """Where the rows stand that the plan is a beginning of; for a run to so many samples."""
        return self.folder / "candidates.parquet"

    @property
    def notices_file(self) -> Path:
        """Where `generation.notices` keeps its sentences."""
        return self.folder / "notices.json"

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
        try:
            with locked(self.folder / "lock", self.output):
                yield
        finally:
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # nothing is left in it once the output is complete

    def recipe(self) -> dict[str, Any] | None:
        """The recipe that the plan was made with, or None."""
        path = self.folder / "recipe.yaml"
        if not path.exists():
            return None
        content: dict[str, Any] = yaml.safe_load(path.read_text())
        return content

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
        marks = self.checkpoint.glob("*.parquet")
        return {p.stem: p for p in marks if not p.stem.endswith(".pending")}

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

    def committed_ids(self) -> pa.Array:
        """The ids of the rows that are finished and committed."""
        tables = [pq.ParquetFile(path).read(columns=["id"]) for path in self.committed().values()]
        ids = [table["id"].combine_chunks() for table in tables]
        return pa.concat_arrays(ids) if ids else pa.array([], pa.string())

    def num_accepted(self) -> int:
        """Finished rows that are samples."""
        files = [p for p in self.committed_files() if p.parent.name == "status=accepted"]
        return sum(pq.read_metadata(path).num_rows for path in files)

    def rejected(self, columns: list[str]) -> pa.Table:
        """These columns of all rows that count and were rejected."""
        files = [p for p in self.committed_files() if p.parent.name == "status=rejected"]
        tables = [pq.ParquetFile(path).read(columns=columns) for path in files]
        return pa.concat_tables(tables) if tables else pa.table({name: [] for name in columns})

    def clear(self) -> None:
        """Nothing is finished any more."""
        for folder in (self.checkpoint, self.rows):
            shutil.rmtree(folder)
            folder.mkdir()

    def reopen(self, reasons: Sequence[str]) -> int:
        """Rows that were rejected for one of these reasons are not finished any more.

        Returns:
            How many.
        """
        num_reopened = 0
        committed = self.committed()
        for path, prefix in self.data_files().items():
            if prefix not in committed or path.parent.name != "status=rejected":
                continue
            rows = pq.ParquetFile(path).read()
            is_failure = pc.is_in(rows["reason"], value_set=pa.array(reasons, pa.string()))
            ids = rows.filter(is_failure)["id"].combine_chunks()
            if not len(ids):
                continue
            mark = pq.ParquetFile(committed[prefix]).read()
            others = mark.filter(pc.invert(pc.is_in(mark["id"], value_set=ids)))
            # Between the two the block is no whole one: `repair` drops it, if we end here.
            with replaced(committed[prefix]) as temporary:
                pq.write_table(others, temporary)
            with replaced(path) as temporary:
                pq.write_table(rows.filter(pc.invert(is_failure)), temporary)
            num_reopened += len(ids)
        return num_reopened

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


def _is_whole(mark: Path, files: list[Path]) -> bool:
    try:
        num_marked = pq.read_metadata(mark).num_rows
        return bool(num_marked == sum(pq.read_metadata(path).num_rows for path in files))
    except (pa.ArrowInvalid, OSError):
        return False

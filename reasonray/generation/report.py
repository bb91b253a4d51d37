"""The report of an output, complete or not: what a run that is still going has committed counts."""

from pathlib import Path

from reasonray.core.errors import UserError
from reasonray.dataset.manifest import KINDS, read_manifest
from reasonray.dataset.report.page import write_page
from reasonray.dataset.report.survey import Snapshot, Survey
from reasonray.generation.counts import read_timings, run_warnings
from reasonray.generation.notices import read_notices
from reasonray.generation.plan import planned_parts
from reasonray.generation.workspace import Work, Workspace


def write_report(output: str | Path) -> Path:
    """Write `report.html` into an output, finished or still going; gives its path.

    Raises:
        UserError, RunError: as `survey`.
    """
    return write_page(survey(output))


def survey(output: str | Path) -> Survey:
    """What there is to tell about an output, finished or still going.

    Raises:
        UserError: there is no output, or its run has not planned yet.
        RunError: the run moved its files meanwhile.
    """
    folder = Path(output).expanduser().absolute()
    manifest = read_manifest(folder) if folder.is_dir() else None
    finished = Snapshot.of_finished(folder, manifest) if manifest is not None else None
    return Survey(finished or _unfinished(folder))


def _unfinished(folder: Path) -> Snapshot:
    workspace = Workspace(folder)
    recipe = workspace.recipe() if workspace.plan_folder.exists() else None
    if recipe is None:
        raise UserError(f"{folder}: no output of reasonray, nor a run that has begun")
    work = sorted(workspace.folder.glob("work-*"))[-1:]
    committed = [path for each in work for path in Work(each).committed_files()]
    timings, seconds = read_timings(workspace.folder / "progress")
    return Snapshot(
        folder=folder,
        files={
            kind: [path for path in committed if path.parent.name == f"status={kind}"]
            for kind in KINDS
        },
        recipe=recipe,
        timings=timings,
        seconds=seconds,
        planned=sum(planned_parts(workspace).values()),
        warnings=[*read_notices(workspace), *run_warnings(workspace.folder / "progress")],
    )

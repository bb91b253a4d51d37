"""The report of an output, complete or not: what a run that is still going has committed counts."""

from reasonray.core.errors import UserError
from reasonray.core.place import Place, place, reached
from reasonray.core.session import last_session
from reasonray.dataset.manifest import KINDS, read_manifest
from reasonray.dataset.report.page import write_page
from reasonray.dataset.report.survey import Snapshot, Survey
from reasonray.generation.counts import pool_timings, read_timings, run_warnings
from reasonray.generation.notices import read_notices
from reasonray.generation.plan import planned_parts
from reasonray.generation.work import by_file, finished
from reasonray.generation.workspace import Workspace


def write_report(output: str | Place) -> Place:
    """Write `report.html` into an output, finished or still going; gives its path.

    Raises:
        UserError, RunError: as `survey`.
    """
    with reached(place(output)):
        return write_page(survey(output))


def survey(output: str | Place) -> Survey:
    """What there is to tell about an output, finished or still going.

    Raises:
        UserError: there is no output, or its run has not planned yet.
        RunError: the run removed its files meanwhile.
    """
    folder = place(output)
    with reached(folder):
        manifest = read_manifest(folder)
        snapshot = Snapshot.of_finished(folder, manifest) if manifest is not None else None
        return Survey(snapshot or _unfinished(folder))


def _unfinished(folder: Place) -> Snapshot:
    workspace = Workspace(folder)
    recipe = workspace.recipe()
    if recipe is None:
        raise UserError(f"{folder}: no output of reasonray, nor a run that has begun")
    work = workspace.folder / "work"
    index = finished(work, workspace.folder / "sealed", last_session(workspace.folder))
    rows = {work / name: places.to_pylist() for name, places in by_file(index)}
    timings, seconds = read_timings(workspace.sessions_folder)
    return Snapshot(
        folder=folder,
        files={
            kind: {file: rows[file] for file in rows if file.parent.name == f"status={kind}"}
            for kind in KINDS
        },
        recipe=recipe,
        timings=timings,
        seconds=seconds,
        pools=pool_timings(workspace.sessions_folder),
        planned=sum(planned_parts(workspace).values()),
        warnings=[*read_notices(workspace), *run_warnings(workspace.sessions_folder)],
    )

"""`generate`: from a recipe and sources to a finished output, in one call that can be repeated."""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonray import stages
from reasonray.core.console import say
from reasonray.core.errors import RunError, UserError
from reasonray.core.extras import require
from reasonray.core.place import Place, create, make_folder, place, reached, read_json, written
from reasonray.core.recipe import Recipe, differing_keys, load, parse
from reasonray.core.record import FAILURES
from reasonray.core.sections import SourceConfig
from reasonray.core.session import Session
from reasonray.core.writing import no_space, out_of_space, write_file
from reasonray.dataset.card import write_card
from reasonray.dataset.manifest import MANIFEST, Manifest, RayJob, make_manifest, read_manifest
from reasonray.dataset.report.page import REPORT
from reasonray.generation.audit import Judged, judged
from reasonray.generation.counts import pool_timings, ray_jobs, read_timings, run_warnings
from reasonray.generation.notices import read_notices
from reasonray.generation.plan import (
    Plan,
    candidate_ids,
    extend_plan,
    planned_ids,
    planned_parts,
    write_input,
    write_plan,
)
from reasonray.generation.pool import Build
from reasonray.generation.progress import Progress
from reasonray.generation.publish import Written, remove_others, write_shards
from reasonray.generation.report import write_report
from reasonray.generation.stretches import Stretch
from reasonray.generation.work import Work
from reasonray.generation.workspace import Workspace
from reasonray.stages.wiring import check_wiring

Approve = Callable[[Recipe, dict[str, int]], None]

MAX_REASONS = 3
"""Of a run without a sample, that its message counts."""


def generate(
    recipe: str | Path | Recipe,
    output: str | Place,
    sources: Sequence[str | SourceConfig] | None = None,
    parts: Sequence[str] | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    approve: Approve | None = None,
    accepted: int | None = None,
) -> Manifest:
    """Make a dataset, or go on with one that was stopped.

    Args:
        recipe: a shipped recipe's name, a YAML file, or a checked recipe.
        output: a folder or the URI of one on an object store (s3://, gs://, az://); new, empty or
            of an earlier run of the same recipe.
        sources: replace the recipe's; `FORMAT=PATH` or configurations.
        parts: replace the recipe's.
        limit: inputs at most, over all sources and parts.
        overrides: `a.b=c` settings of the recipe.
        approve: called with the checked recipe and the rows to do of each part before the first of
            them is begun, and with `accepted` before each round; what it raises ends the call, and
            the plan stays.
        accepted: samples after which it stops.

    Returns:
        What is in the output.

    Raises:
        UserError: the recipe, a source, the output or the cluster does not fit.
        RunError: the run had to stop; the same call goes on from there.
    """
    recipe = load(recipe, overrides, sources, parts, limit, accepted)
    manifest = run(recipe, output, approve=approve)
    folder = place(output)
    with reached(folder):
        page = folder / REPORT
        # One that was written while the run went on is older than the manifest.
        if not page.exists() or written(page) < written(folder / MANIFEST):
            write_report(folder)
    return manifest


def run(
    recipe: Recipe,
    output: str | Place,
    *,
    build: Build = stages.build,
    plan: Plan | None = None,
    approve: Approve | None = None,
) -> Manifest:
    """`generate` with everything checked; other stages and another plan can be handed in.

    Args:
        recipe: with sources, parts and limit in their place.
        output: as in `generate`.
        build: makes a stage by its name; importable by its name, as processes of Ray call it.
        plan: gives the rows to do; the recipe's sources by default.
        approve: as in `generate`.
    """
    workspace = Workspace(output)
    with reached(workspace.output):
        if not workspace.folder.exists() and (finished := _finished(recipe, workspace.output)):
            return finished
    require("ray")
    try:
        with reached(workspace.output):
            manifest, is_first_round = None, True
            while manifest is None:
                # Each round in a session of its own: Ray Data never commits where something is.
                with workspace.session() as session:
                    manifest = _finished(recipe, workspace.output) or _round(
                        recipe, workspace, session, build, plan, approve, is_first=is_first_round
                    )
                is_first_round = False
            return manifest
    except pa.ArrowInvalid as error:
        raise RunError(
            f"output {workspace.output}: a file of this run is damaged ({error}); it cannot be "
            f"gone on with, delete {workspace.folder} to begin anew",
            again=False,
        ) from error
    except OSError as error:
        if out_of_space(error):
            raise no_space(workspace.output) from error
        raise


def _round(
    recipe: Recipe,
    workspace: Workspace,
    session: Session,
    build: Build,
    plan: Plan | None,
    approve: Approve | None,
    *,
    is_first: bool,
) -> Manifest | None:
    """Make all that is planned; gives the manifest, or None where more is planned now."""
    before = workspace.recipe()
    if before is not None:
        _refuse_another(recipe, before, workspace.output)
    else:
        _plan(recipe, workspace, session, plan)
    work = Work(workspace, session)
    done = work.before()
    if is_first:
        done = _to_be_kept(done, workspace)
    work.seal(done)
    # Ray stays for the publication, if it was needed for rows.
    with contextlib.ExitStack() as joined:
        threshold = _make_rows(recipe, workspace, session, work, done, build, approve, joined)
        session.check()
        rows = judged(workspace, work)
        if not rows.num_accepted:
            raise _no_sample(workspace, work, rows.index)
        if recipe.accepted is not None:
            if _plan_more(recipe.accepted, workspace, session, rows):
                return None
            rows = rows.first(recipe.accepted, candidate_ids(workspace))
        return _publish(recipe, workspace, session, rows, threshold)


def _plan(recipe: Recipe, workspace: Workspace, session: Session, plan: Plan | None) -> None:
    if plan is None:
        from reasonray.sources import plan as plan_sources

        plan = plan_sources
    make_folder(workspace.sources_folder)
    notices: list[str] = []
    rows = plan(recipe, workspace.sources_folder, notices)
    write_plan(workspace, session, recipe, rows, notices)
    for notice in read_notices(workspace):
        say(f"warning: {notice}")


def _to_be_kept(done: pa.Table, workspace: Workspace) -> pa.Table:
    """What of an earlier run's rows need not be done again; says what does."""
    num_rows = len(planned_ids(workspace))
    if done.num_rows == num_rows and not _num_accepted(done):
        say(f"{workspace.output}: the last run made no sample, all rows are done again")
        return done.slice(0, 0)
    failed = pc.is_in(done["reason"].cast(pa.string()), value_set=pa.array(FAILURES, pa.string()))
    kept = done.filter(pc.invert(failed))
    if num_failures := done.num_rows - kept.num_rows:
        say(f"{workspace.output}: {num_failures} rows that failed are done again")
    if kept.num_rows:
        say(f"{workspace.output}: going on, {kept.num_rows} of {num_rows} rows are done")
    return kept


def _num_accepted(index: pa.Table) -> int:
    return int(pc.sum(pc.equal(index["status"].cast(pa.string()), "accepted")).as_py() or 0)


def _make_rows(
    recipe: Recipe,
    workspace: Workspace,
    session: Session,
    work: Work,
    done: pa.Table,
    build: Build,
    approve: Approve | None,
    joined: contextlib.ExitStack,
) -> float | None:
    """Make what the plan has and `done` has not; gives the divergence threshold by rank."""
    num_rows, num_done = len(planned_ids(workspace)), done.num_rows
    path = workspace.threshold_file
    threshold = read_json(path)["threshold"] if path.exists() else None
    if num_done == num_rows:
        return threshold
    from reasonray import cluster
    from reasonray.generation import language_server, pipeline
    from reasonray.generation.ray_notes import RayNotes

    parts = planned_parts(workspace)
    ids = done["id"].combine_chunks()
    if approve is not None:
        approve(recipe, planned_parts(workspace, ids))
    needed = stages.needed(recipe, parts)
    names = [name for pool in needed.pools for name in pool.stages]
    check_wiring([stages.stage_class(name) for name in names], parts)
    left = write_input(workspace, work.input, ids)
    pools = [*needed.pools, *language_server.pools(needed)]
    joined.enter_context(cluster.connected(pools, wait_s=recipe.output.wait_for_cluster_s))
    with language_server.served(needed, session) as needed:
        notes = RayNotes(f"{workspace.output}/{session.name}/rows")
        measured = RayNotes(f"{workspace.output}/{session.name}/measuring")
        try:
            is_ranked = recipe.stages.divergence.worst_fraction and "I" in parts
            if is_ranked and not path.exists():
                num_pairs = parts["I"] // recipe.variations
                say(f"{workspace.output}: measuring how far the images of {num_pairs} pairs differ")
                with Progress(measured, pipeline.MEASURING_STAGES, num_pairs, 0):
                    threshold = pipeline.divergence_threshold(
                        needed, workspace, work, build, measured
                    )
                write_file(path, json.dumps({"threshold": threshold}))
            job = RayJob(**cluster.current_job())
            with Progress(notes, names, num_rows, num_done, session, job=job):
                pipeline.run(needed, work, left, build, threshold, notes)
        finally:
            for each in (notes, measured):
                each.clear()
    return threshold


def _plan_more(accepted: int, workspace: Workspace, session: Session, rows: Judged) -> bool:
    """Plan what the samples that are still missing will need; False where there is nothing to."""
    num_missing = accepted - rows.num_accepted
    if num_missing <= 0:
        return False
    num_rows = rows.index.num_rows
    # A tenth more than at this rate, so that few rounds are needed; the limit is for few rows, of
    # which the rate is not to be told.
    num_more = math.ceil(1.1 * num_missing * num_rows / max(rows.num_accepted, 1))
    session.check()
    num_planned = extend_plan(workspace, min(num_more, 4 * num_rows))
    if num_planned:
        say(
            f"{workspace.output}: {rows.num_accepted} of {accepted} samples after {num_rows} rows, "
            f"going on with {num_planned} more"
        )
    return num_planned > 0


def _publish(
    recipe: Recipe,
    workspace: Workspace,
    session: Session,
    rows: Judged,
    threshold: float | None,
) -> Manifest:
    def spread(stretches: list[Stretch]) -> list[Written]:
        from reasonray.generation.tasks import write_in_tasks

        return write_in_tasks(stretches, workspace.output, recipe.output.wait_for_cluster_s)

    published = write_shards(workspace, session, rows, recipe.output, spread)
    summary = published.summary
    timings, seconds = read_timings(workspace.sessions_folder)
    warnings = [*read_notices(workspace), *run_warnings(workspace.sessions_folder)]
    if recipe.accepted is not None and (num := summary.total("accepted")) < recipe.accepted:
        warnings.append(f"all inputs are done, {num} of the {recipe.accepted} samples are made")
    manifest = make_manifest(
        recipe,
        summary,
        shards=published.shards,
        threshold=threshold,
        seconds=seconds,
        timings=timings,
        pools=pool_timings(workspace.sessions_folder),
        jobs=ray_jobs(workspace.sessions_folder),
        warnings=warnings,
    )
    session.check()
    write_card(workspace.output, manifest, summary.licenses)
    content = manifest.model_dump_json(indent=2) + "\n"
    if not create(workspace.output / MANIFEST, content.encode()):
        if other := read_manifest(workspace.output):
            remove_others(workspace.output, other.shards)
        session.check()
        raise RunError(f"output {workspace.output}: another run has published here meanwhile")
    # Again: a run that was taken for dead may have written one between the two.
    write_card(workspace.output, manifest, summary.licenses)
    remove_others(workspace.output, manifest.shards)
    return manifest


def _no_sample(workspace: Workspace, work: Work, index: pa.Table) -> RunError:
    """What is said of a run in which every row was rejected."""
    rows = work.read(index, ["stage", "reason", "detail"]).to_pylist()
    counts = Counter((row["stage"], row["reason"]) for row in rows)
    most = ", ".join(
        f"{stage} {reason} {count}" for (stage, reason), count in counts.most_common(MAX_REASONS)
    )
    commonest = counts.most_common(1)[0][0]
    example = next(row["detail"] for row in rows if (row["stage"], row["reason"]) == commonest)
    return RunError(
        f"output {workspace.output}: none of {len(rows)} inputs became a sample ({most}), e.g. "
        f"{example} Nothing was published; `reasonray report` shows the rows. Mend the cause, then "
        "all are done again"
    )


def begun_with(output: str | Place) -> dict[str, Any] | None:
    """The recipe that an output was begun or made with; None: nothing is there.

    Raises:
        UserError: something else is there.
    """
    with reached(place(output)):
        finished = read_manifest(output)
        return Workspace(output).recipe() if finished is None else finished.recipe


def _finished(recipe: Recipe, output: Place) -> Manifest | None:
    """The manifest, if there is nothing left to do."""
    finished = read_manifest(output)
    if finished is not None:
        _refuse_another(recipe, finished.recipe, output)
        say(f"{output}: complete with {finished.accepted} accepted rows, nothing to do")
    return finished


def _refuse_another(recipe: Recipe, before: dict[str, object], output: Place) -> None:
    """Only the recipe that an output was begun with may go on with it.

    Raises:
        UserError: names the keys that differ.
    """
    earlier = parse(before, name=f"{output}: recipe of the earlier run")
    keys = differing_keys(recipe.content(), earlier.content())
    if keys:
        raise UserError(
            f"output {output}: was begun with another recipe; different: {', '.join(keys)}; "
            "give another output, or the same recipe"
        )

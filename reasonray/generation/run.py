"""`generate`: from a recipe and sources to a finished output, in one call that can be repeated."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from reasonray import stages
from reasonray.core.console import say
from reasonray.core.errors import RunError, UserError
from reasonray.core.extras import require
from reasonray.core.recipe import Recipe, differing_keys, load, parse
from reasonray.core.record import FAILURES
from reasonray.core.sections import SourceConfig
from reasonray.core.writing import no_space, out_of_space, write_file
from reasonray.dataset.card import write_card
from reasonray.dataset.manifest import MANIFEST, Manifest, make_manifest, read_manifest
from reasonray.dataset.report.page import REPORT
from reasonray.generation.counts import read_timings, run_warnings
from reasonray.generation.notices import read_notices
from reasonray.generation.plan import Plan, extend_plan, planned_ids, planned_parts, write_plan
from reasonray.generation.pool import Build
from reasonray.generation.progress import Progress
from reasonray.generation.publish import judged, write_shards
from reasonray.generation.report import write_report
from reasonray.generation.workspace import Work, Workspace
from reasonray.stages.wiring import check_wiring

Approve = Callable[[Recipe, dict[str, int]], None]

MAX_REASONS = 3
"""Of a run without a sample, that its message counts."""


def generate(
    recipe: str | Path | Recipe,
    output: str | Path,
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
        output: a folder, new, empty or of an earlier run of the same recipe.
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
    made = load(recipe, overrides, sources, parts, limit, accepted)
    manifest = run(made, output, approve=approve)
    page = Path(output) / REPORT
    # One that was written while the run went on is older than the manifest.
    if not page.exists() or page.stat().st_mtime < (page.parent / MANIFEST).stat().st_mtime:
        write_report(output)
    return manifest


def run(
    recipe: Recipe,
    output: str | Path,
    *,
    build: Build = stages.build,
    plan: Plan | None = None,
    approve: Approve | None = None,
) -> Manifest:
    """`generate` with everything checked; other stages and another plan can be handed in.

    Args:
        recipe: with sources, parts and limit in their place.
        output: a folder.
        build: makes a stage by its name; importable by its name, as processes of Ray call it.
        plan: gives the rows to do; the recipe's sources by default.
        approve: as in `generate`.
    """
    workspace = Workspace(output)
    if not workspace.folder.exists() and (finished := _finished(recipe, workspace.output)):
        return finished
    require("ray")
    try:
        with workspace.locked():
            if finished := _finished(recipe, workspace.output):
                workspace.remove()  # left by a run that was killed at its very end
                return finished
            return _run(recipe, workspace, build, plan, approve)
    except OSError as error:
        if out_of_space(error):
            raise no_space(workspace.output) from error
        raise


def _run(
    recipe: Recipe,
    workspace: Workspace,
    build: Build,
    plan: Plan | None,
    approve: Approve | None,
) -> Manifest:
    before = workspace.recipe()
    if before is not None:
        _refuse_another(recipe, before, workspace.output)
    if not workspace.plan_folder.exists():
        if plan is None:
            from reasonray.sources import plan as plan_sources

            plan = plan_sources
        sources_folder = workspace.folder / "sources"
        sources_folder.mkdir(exist_ok=True)
        notices: list[str] = []
        write_plan(workspace, recipe, plan(recipe, sources_folder, notices), notices)
        for notice in read_notices(workspace):
            say(f"warning: {notice}")
    work = workspace.open_work()
    num_rows = len(planned_ids(workspace))
    if work.num_committed() == num_rows and not work.num_accepted():
        say(f"{workspace.output}: the last run made no sample, all rows are done again")
        work.clear()
    elif num_failures := work.reopen(FAILURES):
        say(f"{workspace.output}: {num_failures} rows that failed are done again")
    num_done = work.num_committed()
    if num_done:
        say(f"{workspace.output}: going on, {num_done} of {num_rows} rows are done")
    while True:
        threshold = _make_rows(recipe, workspace, work, build, approve)
        if not work.num_accepted():
            raise _no_sample(workspace, work)
        if recipe.accepted is None or not _plan_more(recipe.accepted, workspace, work):
            return _publish(recipe, workspace, work, threshold)
        # Processes and counts of its own for what was added.
        workspace = Workspace(workspace.output)
        work = workspace.open_work()


def _make_rows(
    recipe: Recipe, workspace: Workspace, work: Work, build: Build, approve: Approve | None
) -> float | None:
    """Make what the plan has and `work` has not; gives the divergence threshold by rank."""
    num_rows, num_done = len(planned_ids(workspace)), work.num_committed()
    path = workspace.folder / "divergence.json"
    threshold = json.loads(path.read_text())["threshold"] if path.exists() else None
    if num_done == num_rows:
        return threshold
    from reasonray import cluster
    from reasonray.generation import pipeline

    parts = planned_parts(workspace)
    if approve is not None:
        approve(recipe, planned_parts(workspace, work.committed_ids()))
    needed = stages.needed(recipe, parts)
    names = [name for pool in needed.pools for name in pool.stages]
    check_wiring([stages.stage_class(name) for name in names], parts)
    with cluster.connected(needed.pools):
        is_ranked = recipe.stages.divergence.worst_fraction and "I" in parts
        if is_ranked and not path.exists():
            num_pairs = parts["I"] // recipe.variations
            say(f"{workspace.output}: measuring how far the images of {num_pairs} pairs differ")
            with Progress(workspace.measuring_folder, pipeline.MEASURING_STAGES, num_pairs, 0):
                threshold = pipeline.divergence_threshold(needed, workspace, build)
            write_file(path, json.dumps({"threshold": threshold}))
        with Progress(workspace.progress_folder, names, num_rows, num_done):
            pipeline.run(needed, workspace, work, build, threshold)
    return threshold


def _plan_more(accepted: int, workspace: Workspace, work: Work) -> bool:
    """Plan what the samples that are still missing will need; False where there is nothing to."""
    rows = judged(workspace, work)
    num_missing = accepted - rows.num_accepted
    if num_missing <= 0:
        return False
    num_rows = rows.index.num_rows
    # A tenth more than at this rate, so that few rounds are needed; the limit is for few rows, of
    # which the rate is not to be told.
    num_more = math.ceil(1.1 * num_missing * num_rows / max(rows.num_accepted, 1))
    num_planned = extend_plan(workspace, min(num_more, 4 * num_rows))
    if num_planned:
        say(
            f"{workspace.output}: {rows.num_accepted} of {accepted} samples after {num_rows} rows, "
            f"going on with {num_planned} more"
        )
    return num_planned > 0


def _publish(recipe: Recipe, workspace: Workspace, work: Work, threshold: float | None) -> Manifest:
    summary = write_shards(workspace, work, recipe.output, recipe.accepted)
    timings, seconds = read_timings(workspace.folder / "progress")
    warnings = [*read_notices(workspace), *run_warnings(workspace.folder / "progress")]
    if recipe.accepted is not None and (num := summary.total("accepted")) < recipe.accepted:
        warnings.append(f"all inputs are done, {num} of the {recipe.accepted} samples are made")
    manifest = make_manifest(
        recipe, summary, threshold=threshold, seconds=seconds, timings=timings, warnings=warnings
    )
    write_card(workspace.output, manifest, summary.licenses)
    write_file(workspace.output / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    workspace.remove()
    return manifest


def _no_sample(workspace: Workspace, work: Work) -> RunError:
    """What is said of a run in which every row was rejected."""
    rows = work.rejected(["stage", "reason", "detail"]).to_pylist()
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


def _finished(recipe: Recipe, output: Path) -> Manifest | None:
    """The manifest, if there is nothing left to do."""
    finished = read_manifest(output)
    if finished is not None:
        _refuse_another(recipe, finished.recipe, output)
        say(f"{output}: complete with {finished.accepted} accepted rows, nothing to do")
    return finished


def _refuse_another(recipe: Recipe, before: dict[str, object], output: Path) -> None:
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

"""`reasonray evaluate`: editors over benchmarks on Ray Data, row by row, killed and gone on with.

    DIR/edits/, DIR/scores/           of each chunk of items its pictures and figures (`chunks`)
    DIR/rows/                         all of it by item, Parquet and JSON lines
    DIR/index.html                    to look at; table.md, table.tex and results.json beside it

A chunk that is there is not made again. Editors and benchmarks may be added later; what was made
with other settings is refused.
"""

import functools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from reasonray.cluster import connected, executed, hide_gpus_unless, settings
from reasonray.core.console import say
from reasonray.core.errors import RunError
from reasonray.core.place import Place, place, reached
from reasonray.core.recipe import Recipe, load
from reasonray.core.sections import PoolConfig
from reasonray.core.session import Session, session
from reasonray.core.writing import space_checked, write_table
from reasonray.evaluation import editors
from reasonray.evaluation.chunks import (
    NOTICES,
    Chunk,
    check_settings,
    chunks_of,
    figures_before,
    forget_failures,
    forget_figures_before,
    is_judged,
    measured_by,
    notices_of,
    read_chunk,
    unfinished,
)
from reasonray.evaluation.editing import Editing
from reasonray.evaluation.judge import Judge
from reasonray.evaluation.metrics import InputMetrics, Metrics
from reasonray.evaluation.report import write_results
from reasonray.evaluation.subjects import Subject, all_opened, open_subject, refuse_twice
from reasonray.evaluation.yardsticks import (
    Both,
    ByInput,
    ByJudge,
    ByTruth,
    Yardstick,
    measure,
)

SESSIONS = ".sessions"


def evaluate(
    recipe: str | Recipe,
    editor_specs: Sequence[str],
    benchmarks: Sequence[str],
    output: str | Place,
    overrides: Sequence[str] = (),
    *,
    retry_failed: bool = False,
) -> Place:
    """Measure editors, or go on where that was stopped.

    Args:
        recipe: its section `evaluation` counts.
        editor_specs: `NAME=SPEC`, as `editors` has them.
        benchmarks: `DIR` or `NAME=PATH`, as `subjects` has them.
        output: a folder or the URI of one on a store.
        overrides: `a.b=c` settings of the recipe.
        retry_failed: edit again what has no picture, and measure again what has no figure.

    Returns:
        The page, `index.html`.

    Raises:
        UserError: an editor, a benchmark or a setting does not fit.
        RunError: it had to stop; the same call goes on from there.
    """
    recipe = load(recipe, overrides)
    specs = [editors.parse(text) for text in editor_specs]
    refuse_twice("editor", [spec.name for spec in specs])
    subjects = all_opened(benchmarks)
    folder = place(output)
    with (
        reached(folder),
        space_checked(folder),
        session(folder / SESSIONS, folder) as held,
    ):
        for subject in subjects:
            for spec in specs:
                check_settings(folder, subject, spec, recipe)
        chunks = [
            chunk
            for spec in specs
            for subject in subjects
            for chunk in chunks_of(folder, subject, spec, recipe.evaluation.chunk_rows)
        ]
        if retry_failed:
            items = {subject.name: subject.items for subject in subjects}
            count = sum(
                forget_failures(each, items[each.benchmark][each.first : each.last])
                for each in chunks
            )
            say(f"{folder}: {count} rows that failed are done again")
        if _make(recipe, folder, held, chunks):
            _refuse_replaced(subjects)
        held.check()
        by = {each.name: measured_by(each.benchmark, recipe) for each in subjects}
        return write_results(folder, by, specs, subjects)


def _refuse_replaced(subjects: Sequence[Subject]) -> None:
    """See that what was edited and measured is what the figures will be said to be of."""
    for subject in subjects:
        if open_subject(subject.name, subject.path).content != subject.content:
            raise RunError(
                f"benchmark {subject.name}={subject.path}: it was changed while it was measured; "
                "give another --output, or put back what it was",
                again=False,
            )


def _make(recipe: Recipe, folder: Place, held: Session, chunks: Sequence[Chunk]) -> bool:
    """Edit and measure what is missing; gives whether something was."""
    missing = unfinished(folder, chunks)
    if not missing:
        say(f"{folder}: everything is measured")
        return False
    if len(missing) < len(chunks):
        say(f"{folder}: going on, {len(chunks) - len(missing)} of {len(chunks)} parts are done")
    config = recipe.evaluation
    pool = PoolConfig(
        stages=["evaluation"],
        min_actors=2,
        max_actors=2 * config.num_actors,
        num_cpus=config.num_cpus,
        num_gpus=config.num_gpus,
        label_selector=config.label_selector,
    )
    keys = "evaluation.num_cpus or num_gpus"
    patient = _patient(recipe)
    with connected([pool], keys, recipe.output.wait_for_cluster_s), settings(patient):
        for own in _passes(missing):
            executed(functools.partial(_run, recipe, held, own), folder)
    return True


def _passes(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Editor by editor: each has processes that hold its models; those without share theirs."""
    passes: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        spec = editors.Spec(chunk.editor, chunk.spec)
        passes.setdefault(chunk.editor if spec.has_model else "", []).append(chunk)
    return list(passes.values())


def _patient(recipe: Recipe) -> Recipe:
    """The recipe with time enough for a chunk of which every edit hangs: alone each ends itself."""
    config, output = recipe.evaluation, recipe.output
    longest_s = output.stall_timeout_s + 2 * config.chunk_rows * config.timeout_s
    output = output.model_copy(update={"stall_timeout_s": longest_s})
    return recipe.model_copy(update={"output": output})


def _run(recipe: Recipe, held: Session, chunks: Sequence[Chunk]) -> None:
    """Make the chunks of a pass, and say how far that is."""
    import ray.data

    config = recipe.evaluation
    # A chunk a task. Not by repartition: Ray does not watch for hangs beside that.
    rows: ray.data.Dataset = ray.data.from_items(
        [vars(chunk) for chunk in chunks], override_num_blocks=len(chunks)
    )
    for actor, arguments in (
        (_Editing, (recipe, held.number)),
        (_Measuring, (recipe,)),
    ):
        rows = rows.map(
            cast(Any, actor),
            fn_constructor_args=arguments,
            num_cpus=config.num_cpus,
            num_gpus=config.num_gpus,
            label_selector=config.label_selector,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=config.num_actors),
        )
    num_rows, num_done, num_failed = (Counter[str]() for _ in range(3))
    for chunk in chunks:
        num_rows[chunk.editor] += chunk.last - chunk.first
    notices: set[tuple[str, str]] = set()
    for row in rows.iter_rows():
        held.check()
        editor = row["editor"]
        for notice in row["notices"]:
            if (editor, notice) not in notices:
                say(f"{editor}: {notice}")
                notices.add((editor, notice))
        num_done[editor] += row["last"] - row["first"]
        num_failed[editor] += row["num_failed"]
        failed = num_failed[editor]
        note = f", {failed} of them without a picture or a figure" if failed else ""
        say(f"{editor}: {num_done[editor]} of {num_rows[editor]} edits{note}")


class _Editing:
    """A process that holds an editor, or several that hold nothing."""

    def __init__(self, recipe: Recipe, session: int) -> None:
        hide_gpus_unless(recipe.evaluation.num_gpus)
        self._recipe, self._session = recipe, session
        self._open = functools.cache(open_subject)
        # Loaded by the first call: an exception in a constructor is reworded on its way.
        self._load = functools.cache(self._editing)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        path = place(row["edits"])
        if path.exists():
            return row
        subject = self._open(row["benchmark"], row["path"])
        edit = self._load(editors.Spec(row["editor"], row["spec"]))
        edit(subject.benchmark, subject.items[row["first"] : row["last"]], path)
        return row

    def _editing(self, spec: editors.Spec) -> Editing:
        config = self._recipe.evaluation
        return Editing(
            editors.load(spec, config),
            spec.name,
            session=self._session,
            seed=self._recipe.seed,
            timeout_s=config.timeout_s,
        )


class _Measuring:
    """A process that holds what measures: metrics' models, a judge."""

    def __init__(self, recipe: Recipe) -> None:
        hide_gpus_unless(recipe.evaluation.num_gpus)
        self._recipe, self._is_asking = recipe, False
        self._open = functools.cache(open_subject)
        self._load = functools.cache(self._yardstick)
        models = (recipe.evaluation.clip, recipe.evaluation.dino)
        self._metrics = functools.cache(lambda: Metrics(*models))
        self._input_metrics = functools.cache(lambda: InputMetrics(*models))
        self._judge = functools.cache(lambda: Judge(recipe.evaluation.judge, seed=recipe.seed))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        subject = self._open(row["benchmark"], row["path"])
        items = subject.items[row["first"] : row["last"]]
        edits = read_chunk(place(row["edits"]), items)
        scores = place(row["scores"])
        before = figures_before(scores, edits)
        table = measure(self._load(row["benchmark"], row["path"]), items, edits, before)
        own = self._judge().notices if self._is_asking else []
        notices = [*notices_of(edits), *(f"its judge: {notice}" for notice in own)]
        # For whoever reads the figures, in whatever later session.
        table = table.replace_schema_metadata({NOTICES: json.dumps(notices)})
        write_table(scores, table)
        forget_figures_before(scores)
        num_failed = table.num_rows - table["reason"].null_count
        return {**row, "num_failed": num_failed, "notices": notices}

    def _yardstick(self, name: str, path: str) -> Yardstick:
        benchmark, config = self._open(name, path).benchmark, self._recipe.evaluation
        yardsticks: list[Yardstick] = []
        if benchmark.yardstick == "truth":
            yardsticks.append(ByTruth(self._metrics()))
        elif benchmark.yardstick == "input":
            yardsticks.append(ByInput(self._input_metrics()))
        if is_judged(benchmark, config):
            self._is_asking = True
            yardsticks.append(ByJudge(benchmark, self._judge()))
        return Both(*yardsticks)

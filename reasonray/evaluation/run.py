"""`reasonray evaluate`: editors over benchmarks on Ray Data, row by row, killed and gone on with.

    DIR/edits/BENCHMARK/EDITOR/       settings.json, and of each chunk of items its edited pictures
    DIR/scores/BENCHMARK/EDITOR/      settings.json, and of each chunk its figures
    DIR/rows/                         all of it by item, Parquet and JSON lines
    DIR/index.html                    to look at; table.md, table.tex and results.json beside it

A chunk that is there is not made again. Editors and benchmarks may be added later; what was made
with other settings is refused.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from reasonray.cluster import connected, executed, hide_gpus_unless, settings
from reasonray.core.console import say
from reasonray.core.errors import UserError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.place import Place, files, make_folder, parquet, place, reached, read_json
from reasonray.core.recipe import Recipe, differing_keys, load
from reasonray.core.sections import PoolConfig
from reasonray.core.session import Session, session
from reasonray.core.writing import write_file, write_table
from reasonray.evaluation import editors
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.editing import edit_chunk
from reasonray.evaluation.items import Benchmark, Item
from reasonray.evaluation.judge import Judge, protocol
from reasonray.evaluation.leaving import write_results
from reasonray.evaluation.measuring import (
    NOTICES,
    Both,
    ByInput,
    ByJudge,
    ByTruth,
    Yardstick,
    measure,
)
from reasonray.evaluation.metrics import InputMetrics, Metrics

SESSIONS = ".sessions"


@dataclass(frozen=True)
class Subject:
    """A benchmark as it is named on the command line, opened.

    Attributes:
        name: in tables and folders.
        path: of its folder or file.
        benchmark: opened.
        items: all of it.
    """

    name: str
    path: str
    benchmark: Benchmark
    items: Sequence[Item]


def evaluate(
    recipe: str | Recipe,
    editor_specs: Sequence[str],
    benchmarks: Sequence[str],
    output: str | Place,
    overrides: Sequence[str] = (),
) -> Place:
    """Measure editors, or go on where that was stopped.

    Args:
        recipe: its section `evaluation` counts.
        editor_specs: `NAME=SPEC`, as `editors` has them.
        benchmarks: a folder that `reasonray benchmark` has made, or `NAME=PATH` of a public one.
        output: a folder or the URI of one on a store.
        overrides: `a.b=c` settings of the recipe.

    Returns:
        The page, `index.html`.

    Raises:
        UserError: an editor, a benchmark or a setting does not fit.
        RunError: it had to stop; the same call goes on from there.
    """
    made = load(recipe, overrides)
    specs = [editors.parse(text) for text in editor_specs]
    _refuse_twice("editor", [spec.name for spec in specs])
    subjects = all_opened(benchmarks)
    folder = place(output)
    with reached(folder), session(folder / SESSIONS, folder) as held:
        for subject in subjects:
            for spec in specs:
                _check_settings(folder, subject, spec, made)
        chunks = [
            chunk
            for spec in specs
            for subject in subjects
            for chunk in _chunks(folder, subject, spec, made.evaluation.chunk_rows)
        ]
        _make(made, folder, held, chunks)
        by = {each.name: measured_by(each.benchmark, made) for each in subjects}
        return write_results(folder, by, specs, subjects)


def all_opened(texts: Sequence[str]) -> list[Subject]:
    """Benchmarks, each `DIR` or `NAME=PATH`.

    Raises:
        UserError: as `opened`, or two have the same name.
    """
    subjects = [opened(text) for text in texts]
    _refuse_twice("benchmark", [subject.name for subject in subjects])
    return subjects


def opened(text: str) -> Subject:
    """`DIR`, or `NAME=PATH`.

    Raises:
        UserError: there is none of that name, or nothing of it at the path.
    """
    name, separator, path = text.partition("=")
    if not separator:
        name, path = "ours", text
    benchmark = open_benchmark(name, path)
    items = benchmark.items()
    if not items:
        raise UserError(f"benchmark {text}: there are no items")
    return Subject(name, path, benchmark, items)


@dataclass(frozen=True)
class Chunk:
    """Some of a benchmark's items, for one editor.

    Attributes:
        editor: `NAME=SPEC`.
        benchmark: `NAME=PATH`.
        first, last: of the items, the last one excluded.
        edits, scores: the files of their pictures and figures.
    """

    editor: str
    benchmark: str
    first: int
    last: int
    edits: str
    scores: str


def _chunks(folder: Place, subject: Subject, spec: editors.Spec, size: int) -> list[Chunk]:
    return [
        Chunk(
            editor=f"{spec.name}={spec.text}",
            benchmark=f"{subject.name}={subject.path}",
            first=first,
            last=min(first + size, len(subject.items)),
            edits=str(folder / "edits" / subject.name / spec.name / f"{first:06}.parquet"),
            scores=str(folder / "scores" / subject.name / spec.name / f"{first:06}.parquet"),
        )
        for first in range(0, len(subject.items), size)
    ]


def _make(recipe: Recipe, folder: Place, held: Session, chunks: Sequence[Chunk]) -> None:
    there = {str(path) for path in files(folder, ".parquet")}
    missing = [chunk for chunk in chunks if chunk.scores not in there]
    if not missing:
        say(f"{folder}: everything is measured")
        return
    if len(missing) < len(chunks):
        say(f"{folder}: going on, {len(chunks) - len(missing)} of {len(chunks)} parts are done")
    import ray.data

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
    with connected([pool], keys, recipe.output.wait_for_cluster_s), settings(recipe):
        # Editor by editor: each has processes of its own, which hold its models.
        for editor in dict.fromkeys(chunk.editor for chunk in missing):
            own = [chunk for chunk in missing if chunk.editor == editor]

            def run(own: list[Chunk] = own, editor: str = editor) -> None:
                rows: ray.data.Dataset = ray.data.from_items([vars(chunk) for chunk in own])
                rows = rows.repartition(len(own))
                for actor, arguments in (
                    (_Editing, (recipe, editor, held.number)),
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
                num_rows = num_failed = 0
                notices: set[str] = set()
                for row in rows.iter_rows():
                    for notice in set(row["notices"]) - notices:
                        say(f"judge: {notice}")
                    notices |= set(row["notices"])
                    num_rows += row["last"] - row["first"]
                    num_failed += row["num_failed"]
                    failed = f", {num_failed} failed" if num_failed else ""
                    say(f"{editor.partition('=')[0]}: {num_rows} edits{failed}")

            executed(run, folder)


class _Opened:
    """The benchmarks that a process has opened."""

    def __init__(self) -> None:
        self._subject = functools.cache(opened)

    def __call__(self, row: dict[str, Any]) -> Sequence[Item]:
        return self._subject(row["benchmark"]).items[row["first"] : row["last"]]


class _Editing:
    """A process that holds an editor."""

    def __init__(self, recipe: Recipe, editor: str, session: int) -> None:
        hide_gpus_unless(recipe.evaluation.num_gpus)
        self._recipe, self._session, self._items = recipe, session, _Opened()
        # Loaded by the first call: an exception in a constructor is reworded on its way.
        self._load = functools.cache(lambda: editors.load(editors.parse(editor), recipe.evaluation))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        path = place(row["edits"])
        if not path.exists():
            edit_chunk(
                self._load(),
                self._items(row),
                path,
                session=self._session,
                seed=self._recipe.seed,
                timeout_s=self._recipe.evaluation.timeout_s,
            )
        return row


class _Measuring:
    """A process that holds what measures: metrics' models, a judge."""

    def __init__(self, recipe: Recipe) -> None:
        hide_gpus_unless(recipe.evaluation.num_gpus)
        self._recipe, self._items, self._is_asking = recipe, _Opened(), False
        self._load = functools.cache(self._yardstick)
        self._judge = functools.cache(lambda: Judge(recipe.evaluation.judge, seed=recipe.seed))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        edits = parquet(place(row["edits"])).read()
        table = measure(self._load(row["benchmark"]), self._items(row), edits)
        notices = list(self._judge().notices) if self._is_asking else []
        # For whoever reads the figures, in whatever later session.
        table = table.replace_schema_metadata({NOTICES: json.dumps(notices)})
        write_table(place(row["scores"]), table)
        return {**row, "num_failed": table["axes"].null_count, "notices": notices}

    def _yardstick(self, name: str) -> Yardstick:
        benchmark, config = opened(name).benchmark, self._recipe.evaluation
        models = (config.clip, config.dino)
        yardsticks: list[Yardstick] = []
        if benchmark.yardstick == "truth":
            yardsticks.append(ByTruth(Metrics(*models)))
        elif benchmark.yardstick == "input":
            yardsticks.append(ByInput(InputMetrics(*models)))
        if is_judged(benchmark, config):
            self._is_asking = True
            yardsticks.append(ByJudge(benchmark, self._judge()))
        return Both(*yardsticks)


def _check_settings(folder: Place, subject: Subject, spec: editors.Spec, recipe: Recipe) -> None:
    """Write down with what an editor is measured, or see that it is the same as before."""
    config = recipe.evaluation
    wanted: dict[str, dict[str, Any]] = {
        "edits": {
            "editor": spec.text,
            "items": _digest(subject.items),
            "seed": recipe.seed,
            "arguments": config.arguments_of(spec.name),
            "chunk_rows": config.chunk_rows,
            "side": config.side,
            "dtype": config.dtype,
            "batch_size": config.batch_size,
        },
        "scores": measured_by(subject.benchmark, recipe),
    }
    for kind, values in wanted.items():
        path = folder / kind / subject.name / spec.name / "settings.json"
        if not path.exists():
            make_folder(path.parent)
            write_file(path, json.dumps(values, indent=1))
        elif keys := differing_keys(read_json(path), values):
            raise UserError(
                f"output {folder}: {spec.name} was measured on {subject.name} with another "
                f"{', '.join(keys)}; give another --output, or delete {path.parent}"
            )


def is_judged(benchmark: Benchmark, config: EvaluationConfig) -> bool:
    """Whether a judge is asked: by the benchmark's own questions, or ours beside its metrics."""
    return benchmark.yardstick == "judge" or config.judge.language_model is not None


def measured_by(benchmark: Benchmark, recipe: Recipe) -> dict[str, Any]:
    """Models and protocol, with which every figure is stamped.

    Raises:
        UserError: the benchmark wants a judge, and the recipe names none.
    """
    config = recipe.evaluation
    models: dict[str, Any] = {}
    if benchmark.yardstick != "judge":
        models = {"clip": config.clip.model_dump(), "dino": config.dino.model_dump()}
    if is_judged(benchmark, config):
        models["judge"] = {"rubric": benchmark.rubric, **protocol(config.judge, recipe.seed)}
    return models


def _digest(items: Sequence[Item]) -> str:
    content = [[i.id, i.instruction, i.rules, [p.uri for p in i.pictures]] for i in items]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{what} {twice[0]}: named twice; give each a name of its own")

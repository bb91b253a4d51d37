"""Edits a second of `reasonray evaluate`, beside a plain loop of the same models.

    python tests/benchmarks/evaluation_rate.py [--count 50] [--threads N]

The zoo's editor on held-out scenes of the mini world, `--count` of each kind. The loop is what one
writes who has no runner: one process, an item at a time is opened, edited, and measured by the same
five metrics. It has torch's own number of threads, which on a busy machine wait for each other:
there give it `--threads 1`. Then `evaluate` with the recipe's own settings, on a Ray of its own.
Steady is the rate once models are loaded: of the loop all items, of `evaluate` all after the first
part has been edited. Both have the same seeds: the figures must agree.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonray.core.place import files, place
from reasonray.core.recipe import load
from reasonray.core.record import sample_seed
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.items import TRUTH_METRICS, Item
from reasonray.mini import editor
from reasonray.mini.benchmark import write_benchmark

LOOP = "--loop"


@dataclass(frozen=True)
class Timing:
    """How long it took.

    Attributes:
        steady: edits a second, once models are loaded.
        whole: edits a second, from the start of the process to its end.
        means: of each metric, over all items.
    """

    steady: float
    whole: float
    means: dict[str, float]


def loop(benchmark: Path, folder: Path) -> None:
    """The plain loop, in a process of its own; prints its seconds and the metrics' means."""
    import torch

    from reasonray.editor.pipeline import ReasonEditPipeline
    from reasonray.evaluation.metrics import Metrics

    recipe = load("mini")
    arguments: dict[str, Any] = recipe.evaluation.arguments_of("ours")
    pipe: Any = ReasonEditPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    metrics = Metrics(recipe.evaluation.clip, recipe.evaluation.dino)
    items = Ours(str(benchmark)).items()
    sums = dict.fromkeys(TRUTH_METRICS, 0.0)
    start = time.perf_counter()
    for item in items:
        seed = sample_seed(recipe.seed, item.id, "evaluate")
        edited = pipe(
            image=item.pictures[0].open(),
            instruction=item.instruction,
            generator=torch.Generator().manual_seed(seed),
            **arguments,
        ).images[0]
        figures = metrics([edited], [item.references[0].open()], [item.reference_text])
        for name, [value] in figures.items():
            sums[name] += value / len(items)
    print(json.dumps({"seconds": time.perf_counter() - start, "means": sums}))


def plain(benchmark: Path, folder: Path, items: list[Item], threads: int | None) -> Timing:
    """The loop's rates."""
    start = time.perf_counter()
    line = [sys.executable, __file__, LOOP, str(benchmark), str(folder)]
    environment = {key: each for key, each in os.environ.items() if key != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(line, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    said = json.loads(done.stdout.splitlines()[-1])
    return Timing(len(items) / said["seconds"], len(items) / seconds, said["means"])


def evaluated(benchmark: Path, folder: Path, items: list[Item], output: Path) -> Timing:
    """The rates of `reasonray evaluate`."""
    start = time.perf_counter()
    line = ["evaluate", "mini", "--editor", f"ours={folder}", "--benchmark", str(benchmark)]
    program = "import sys; from reasonray.cli.main import call; sys.exit(call(sys.argv[1:]))"
    environment = {key: each for key, each in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-c", program, *line, "--output", str(output)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    edits, scores = (
        [path.stat().st_mtime for path in files(place(output / kind), ".parquet")]
        for kind in ("edits", "scores")
    )
    chunk = load("mini").evaluation.chunk_rows
    results = json.loads((output / "results.json").read_text())
    groups = results["benchmarks"]["ours"]["editors"]["ours"].values()
    means = {
        name: sum(group[name]["mean"] * group[name]["num_items"] for group in groups) / len(items)
        for name in TRUTH_METRICS
    }
    return Timing((len(items) - chunk) / (max(scores) - min(edits)), len(items) / seconds, means)


def main() -> None:
    """Print the rates and their ratios."""
    if sys.argv[1:2] == [LOOP]:
        loop(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50, help="edits of each of the four kinds")
    parser.add_argument("--threads", type=int, help="of the loop")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        benchmark, folder = base / "benchmark", base / "editor"
        write_benchmark(benchmark, given.count)
        editor.write(folder)
        items = list(Ours(str(benchmark)).items())
        theirs = plain(benchmark, folder, items, given.threads)
        ours = evaluated(benchmark, folder, items, base / "out")
    for title, timing in (("plain loop", theirs), ("evaluate", ours)):
        print(f"{title}: {timing.steady:.2f} edits/s steady, {timing.whole:.2f} with its start")
    print(
        f"evaluate / plain loop, {len(items)} edits: {ours.steady / theirs.steady:.2f} steady, "
        f"{ours.whole / theirs.whole:.2f} with its start"
    )
    apart = max(abs(ours.means[name] - theirs.means[name]) for name in TRUTH_METRICS)
    print(f"the metrics' means differ by {apart:.1e} at most")


if __name__ == "__main__":
    main()

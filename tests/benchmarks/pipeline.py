"""Rows a second of `reasonray generate`, beside plain loops over the same stages without Ray.

    python tests/benchmarks/pipeline.py [--recipe mini] [--small 16] [--large 64] [--set KEY=VALUE]

One plain loop, then two at once, each with all rows: the sum is what this machine's cores can give,
the ceiling of two pools. Then ours. Each way makes a small and a large set of the same inputs; the
rate is that of the difference, so that starting Ray and loading the models are apart. Same
batches, same threads for each process.
"""

import argparse
import multiprocessing
import tempfile
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

import reasonray
from reasonray import sources, stages
from reasonray.core.recipe import Recipe, load
from reasonray.core.record import is_rejected
from reasonray.stages.divergence import rank_threshold

Figures = tuple[int, int, float]
"""Rows, accepted ones, seconds."""


def plain(recipe: Recipe, start: Barrier, figures: "Queue[Figures]") -> None:
    """One process of a plain loop, timed after its models are loaded and the others' are, too."""
    with tempfile.TemporaryDirectory() as folder:
        rows = list(sources.plan(recipe, Path(folder), []))
        names = [name for pool in recipe.pools for name in pool.stages]
        torch.set_num_threads(max(pool.num_threads for pool in recipe.pools))
        load_stage, measure = (stages.build(name, recipe) for name in ("load", "divergence"))
        loaded = {name: stages.build(name, recipe) for name in names if name != "divergence"}
        start.wait()
        began = time.perf_counter()
        first_part = measure(load_stage([row.copy() for row in rows if row["part"] == "I"]))
        values = [v for row in first_part if (v := (row.get("scores") or {}).get("divergence"))]
        fraction = recipe.stages.divergence.worst_fraction
        threshold = rank_threshold(values, fraction) if fraction else None
        loaded["divergence"] = stages.build("divergence", recipe, threshold)
        done = rows
        for pool in recipe.pools:
            size = pool.batch_size
            batches = [done[first : first + size] for first in range(0, len(done), size)]
            done = []
            for batch in batches:
                for name in pool.stages:
                    batch = loaded[name](batch)
                done += batch
        seconds = time.perf_counter() - began
    figures.put((len(done), sum(not is_rejected(row) for row in done), seconds))


def plain_loops(recipe: Recipe, count: int) -> Figures:
    """So many loops at once; their rows are added up, the slowest one's seconds count."""
    context = multiprocessing.get_context("spawn")
    start, figures = context.Barrier(count), context.Queue()
    loops = [context.Process(target=plain, args=(recipe, start, figures)) for _ in range(count)]
    for loop in loops:
        loop.start()
    each = [figures.get() for _ in loops]
    for loop in loops:
        loop.join()
    rows, accepted, seconds = zip(*each, strict=True)
    return sum(rows), sum(accepted), max(seconds)


def on_ray(recipe: Recipe) -> Figures:
    """A whole run."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        made = reasonray.generate(recipe, Path(folder) / "out")
    return made.inputs, made.accepted, time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--small", type=int, default=16)
    parser.add_argument("--large", type=int, default=64)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    ways = {
        "plain loop": lambda recipe: plain_loops(recipe, 1),
        "two plain loops": lambda recipe: plain_loops(recipe, 2),
        "Ray": on_ray,
    }
    rates = {}
    for name, way in ways.items():
        figures = []
        for count in (given.small, given.large):
            source = f'[{{format: mini, path: "{count}"}}]'
            recipe = load(given.recipe, [f"sources={source}", *given.set])
            figures.append(way(recipe))
            rows, accepted, seconds = figures[-1]
            print(f"{name}: {rows} rows, {accepted} accepted, {seconds:.1f} s", flush=True)
        (few, _, short), (many, _, long) = figures
        rates[name] = (many - few) / (long - short)
        print(f"{name}: {rates[name]:.2f} rows/s, start-up apart", flush=True)
    print(f"Ray / plain loop: {rates['Ray'] / rates['plain loop']:.2f}")
    print(f"Ray / ceiling: {rates['Ray'] / rates['two plain loops']:.2f}")


if __name__ == "__main__":
    main()

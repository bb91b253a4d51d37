"""Rows a second of `reasonray generate` against a plain loop over the same stages without Ray.

    python tests/benchmarks/pipeline.py [--recipe mini] [--small 16] [--large 64]

Each way makes a small and a large set of the same inputs; the rate is that of the difference, so
that starting Ray and loading the models are apart. Same batches, same threads for each process.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

import reasonray
from reasonray import sources, stages
from reasonray.core.recipe import Recipe, load
from reasonray.core.record import is_rejected
from reasonray.stages.divergence import rank_threshold


def plain(recipe: Recipe, folder: Path) -> tuple[int, int, float]:
    """Rows, accepted ones and seconds of the loop, after loading."""
    rows = list(sources.plan(recipe, folder, []))
    names = [(name, pool.batch_size) for pool in recipe.pools for name in pool.stages]
    threads = {pool.num_threads for pool in recipe.pools}
    torch.set_num_threads(max(threads))
    load_stage, measure = (stages.build(name, recipe) for name in ("load", "divergence"))
    loaded = {name: stages.build(name, recipe) for name, _ in names if name != "divergence"}
    start = time.perf_counter()
    first_part = measure(load_stage([row.copy() for row in rows if row["part"] == "I"]))
    values = [v for row in first_part if (v := (row.get("scores") or {}).get("divergence"))]
    fraction = recipe.stages.divergence.worst_fraction
    threshold = rank_threshold(values, fraction) if fraction else None
    loaded["divergence"] = stages.build("divergence", recipe, threshold)
    done = []
    size = recipe.pools[0].batch_size
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        for name, _ in names:
            batch = loaded[name](batch)
        done += batch
    return len(done), sum(not is_rejected(row) for row in done), time.perf_counter() - start


def on_ray(recipe: Recipe, folder: Path) -> tuple[int, int, float]:
    """Rows, accepted ones and seconds of a whole run."""
    start = time.perf_counter()
    made = reasonray.generate(recipe, folder / "out")
    return made.inputs, made.accepted, time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--small", type=int, default=16)
    parser.add_argument("--large", type=int, default=64)
    given = parser.parse_args()
    rates = {}
    for name, way in (("plain loop", plain), ("Ray", on_ray)):
        figures = []
        for count in (given.small, given.large):
            source = f'[{{format: mini, path: "{count}"}}]'
            recipe = load(given.recipe, [f"sources={source}"])
            with tempfile.TemporaryDirectory() as folder:
                figures.append(way(recipe, Path(folder)))
            rows, accepted, seconds = figures[-1]
            print(f"{name}: {rows} rows, {accepted} accepted, {seconds:.1f} s", flush=True)
        (few, _, short), (many, _, long) = figures
        rates[name] = (many - few) / (long - short)
        print(f"{name}: {rates[name]:.2f} rows/s, start-up apart", flush=True)
    print(f"ratio: {rates['Ray'] / rates['plain loop']:.2f}")


if __name__ == "__main__":
    main()

"""How long people wait for a served editor, printed as JSON.

    python tests/benchmarks/serve_load.py URL [--clients N ...] [--rate R] [--seconds S] [--steps N]

`URL` is of a running service, http://127.0.0.1:8000. With `--clients` so many ask at once, each
again when it has its answer: the capacity. With `--rate` requests arrive at random (Poisson), so
many a second, whether or not the service keeps up; a wait begins when the request should have been
sent, so that queueing counts wherever it happens. `--steps` are taken in turn. Keys: $KEY.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

PICTURE = Path(__file__).parents[2] / "reasonray" / "serving" / "page" / "bee.webp"
INSTRUCTION = "Show what the striped insect makes instead."
SEED = 0


class Load:
    """Requests and what became of them.

    Args:
        client: of the service's address.
        steps: `num_inference_steps` of one request after the other; none: the editor's own.
    """

    def __init__(self, client: httpx.AsyncClient, steps: list[int]) -> None:
        self.client, self.picture = client, PICTURE.read_bytes()
        self.steps = itertools.cycle(steps or [None])
        self.statuses: Counter[str] = Counter()
        self.waits: list[float] = []
        self.refusals: list[float] = []

    async def ask(self, due: float) -> None:
        """One edit.

        Args:
            due: `time.perf_counter()` at which it should have been sent.
        """
        fields = {"prompt": INSTRUCTION, "seed": str(SEED)}
        if (steps := next(self.steps)) is not None:
            fields["num_inference_steps"] = str(steps)
        try:
            answer = await self.client.post(
                "/v1/images/edits", data=fields, files={"image": self.picture}
            )
            status = str(answer.status_code)
        except httpx.HTTPError as error:
            status = type(error).__name__
        self.statuses[status] += 1
        (self.waits if status == "200" else self.refusals).append(time.perf_counter() - due)

    def figures(self, seconds: float) -> dict[str, Any]:
        """Of a run that took so long, the last answer included."""
        return {
            "edits_a_second": round(len(self.waits) / seconds, 3),
            "statuses": dict(self.statuses),
            "waits_s": _percentiles(self.waits),
            "refusals_s": _percentiles(self.refusals),
        }


async def closed(load: Load, num_clients: int, seconds: float) -> dict[str, Any]:
    """So many clients, each with one request at a time."""
    started = time.perf_counter()

    async def client() -> None:
        while (now := time.perf_counter()) < started + seconds:
            await load.ask(now)

    await asyncio.gather(*(client() for _ in range(num_clients)))
    return load.figures(time.perf_counter() - started)


async def opened(load: Load, rate: float, seconds: float) -> dict[str, Any]:
    """Arrivals at random, whatever has become of those before."""
    started, tasks = time.perf_counter(), set[asyncio.Task[None]]()
    async for due in _arrivals(started, rate, seconds):
        tasks.add(asyncio.create_task(load.ask(due)))
    await asyncio.gather(*tasks)
    figures = load.figures(time.perf_counter() - started)
    return {"offered_a_second": round(len(tasks) / seconds, 3), **figures}


async def _arrivals(started: float, rate: float, seconds: float) -> AsyncIterator[float]:
    gaps, due = random.Random(SEED), started
    while (due := due + gaps.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        yield due


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.percentile(seconds, [50, 90, 99, 100]).round(3).tolist()
    return dict(zip(("p50", "p90", "p99", "max"), values, strict=True))


async def run(words: argparse.Namespace) -> dict[str, Any]:
    """The figures of each load that is asked for, one after the other."""
    headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get("KEY")) else {}
    limits = httpx.Limits(max_connections=None)
    results: dict[str, Any] = {}
    async with httpx.AsyncClient(
        base_url=words.url, headers=headers, timeout=300, limits=limits
    ) as client:
        await Load(client, words.steps).ask(time.perf_counter())
        for count in words.clients:
            load = Load(client, words.steps)
            results[f"{count} clients"] = await closed(load, count, words.seconds)
        if words.rate:
            load = Load(client, words.steps)
            results[f"{words.rate:g} a second"] = await opened(load, words.rate, words.seconds)
    return results


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--clients", nargs="*", type=int, default=[])
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", nargs="*", type=int, default=[])
    words = parser.parse_args()
    print(json.dumps(asyncio.run(run(words)), indent=2))


if __name__ == "__main__":
    main()

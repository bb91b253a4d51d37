"""What edits that share their steps gain over edits one by one, printed as JSON.

python tests/benchmarks/serve_engine.py [--scale full|tiny] [--device cuda] [--only GROUP ...]

The engine of `reasonray serve` alone: no HTTP, no Ray. `full` builds the models of the recipe
`paper` with random weights, `tiny` loads the zoo's. A group is one of

- steps: milliseconds of a step by the pictures' side and the batch, of encoding and of decoding,
  and the pictures a second that follow for edits of 20 steps; `max_batch` is chosen by it;
- batching: pictures a second with as many clients, each of which asks when it has its answer, and
  that over an engine that does one edit at a time;
- mixed: likewise with edits of 6, 12 and 24 steps, and that over batches of whole requests, in
  which all have one number of steps;
- difference: how far, in 1/255, edits that share their steps are from the pipeline's own.

On a CPU the seconds are those of its one thread, so that other work on the machine counts for
nothing.
"""

import argparse
import copy
import json
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import gpu
import numpy as np
import PIL.Image
import torch
from gpu import GIB, SCALES, Groups, Scale, models, pictures, run

from reasonray.editor.sampling import Condition
from reasonray.serving.engine import Edit, Engine
from reasonray.serving.samples import Sample, decoded, predict

STEPS, MIXED_STEPS = 20, (6, 12, 24)
TIMED = 5
"""Steps, after two that warm up, whose median is given."""


@dataclass(frozen=True)
class Sizes:
    """What is measured at a scale.

    Attributes:
        sides, batches: of the group steps.
        side, max_batch: of what clients ask for.
        num_steps: of edits of one length.
        clients: how many there are -> how many edits they make in all.
    """

    sides: tuple[int, ...]
    batches: tuple[int, ...]
    side: int
    max_batch: int
    num_steps: int
    clients: dict[int, int]


SIZES = {
    "paper": Sizes((256, 512, 768), (1, 2, 4, 8, 16), 512, 8, 12, {1: 6, 4: 12, 16: 32}),
    "mini": Sizes((96,), (1, 2, 4, 8), 96, 4, 12, {1: 3, 4: 12}),
}
"""By the scale's recipe."""

editor = cache(gpu.edit_pipeline)


def edit(number: int, side: int, num_inference_steps: int) -> Edit:
    """Each of its own seed."""
    [picture] = pictures(1, (side, side))
    return Edit(
        image=picture,
        instruction="Show what it makes instead.",
        seed=number,
        num_inference_steps=num_inference_steps,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
    )


@torch.no_grad()
def steps(scale: Scale, device: str) -> dict[str, Any]:
    """By side and batch; memory includes the models'."""
    pipe, sizes = editor(scale, device), SIZES[scale.recipe]
    null = pipe.null_condition()
    results: dict[str, Any] = {}
    for side in sizes.sides:
        one = edit(0, side, 50)
        sample = Sample.of(pipe, one)
        encoding = _seconds(lambda: Sample.of(pipe, one), device)  # noqa: B023  called at once
        decoding = _seconds(lambda: decoded(pipe, sample), device)  # noqa: B023
        figures: dict[str, Any] = {
            "encode_ms": _ms(encoding),
            "decode_ms": _ms(decoding),
        }
        results[f"{side} px"] = figures
        for batch in sizes.batches:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                step = _step_seconds(pipe, sample, null, batch, device)
            except torch.OutOfMemoryError as error:
                figures[f"batch {batch}"] = {"error": str(error).splitlines()[0]}
                break
            whole = STEPS * step + batch * (encoding + decoding)
            figures[f"batch {batch}"] = {
                "step_ms": _ms(step),
                "images_a_second": round(batch / whole, 3),
            }
            if device == "cuda":
                peak = torch.cuda.max_memory_allocated() / GIB
                figures[f"batch {batch}"]["peak_gib"] = round(peak, 2)
    return results


def _step_seconds(pipe: Any, sample: Sample, null: Condition, batch: int, device: str) -> float:
    factor = pipe.vae.config.scaling_factor
    samples = [replace(sample, scheduler=copy.deepcopy(sample.scheduler)) for _ in range(batch)]

    def step() -> None:
        for each, inputs in zip(samples, predict(pipe, samples, null), strict=True):
            each.advance(*inputs, factor)

    return _seconds(step, device, TIMED)


def _seconds(action: Callable[[], object], device: str, repeats: int = 3) -> float:
    """The median, after two calls that warm up."""
    seconds = []
    for _ in range(2 + repeats):
        started = _now(device)
        action()
        seconds.append(_now(device) - started)
    return statistics.median(seconds[2:])


def _now(device: str) -> float:
    """Seconds: when the GPU has done all, or of this process's computing."""
    if device != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


class WholeRequests:
    """Batches of whole requests: the pipeline is called with all that wait and have one length."""

    def __init__(self, pipe: Any, max_batch: int) -> None:
        self.pipe, self.max_batch = pipe, max_batch
        self._waiting: deque[tuple[Edit, Future[PIL.Image.Image]]] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, edit: Edit) -> "Future[PIL.Image.Image]":
        """As the engine's."""
        future: Future[PIL.Image.Image] = Future()
        with self._news:
            self._waiting.append((edit, future))
            self._news.notify()
        return future

    def close(self) -> None:
        """When nothing waits."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                length = self._waiting[0][0].num_inference_steps
                alike = [each for each in self._waiting if each[0].num_inference_steps == length][
                    : self.max_batch
                ]
                self._waiting = deque(each for each in self._waiting if each not in alike)
            edits = [edit for edit, _ in alike]
            for (_, future), image in zip(alike, _by_pipeline(self.pipe, edits), strict=True):
                future.set_result(image)


def _by_pipeline(pipe: Any, edits: Sequence[Edit]) -> list[PIL.Image.Image]:
    images: list[PIL.Image.Image] = pipe(
        [edit.image for edit in edits],
        [edit.instruction for edit in edits],
        num_inference_steps=edits[0].num_inference_steps,
        guidance_scale=edits[0].guidance_scale,
        image_guidance_scale=edits[0].image_guidance_scale,
        generator=[torch.Generator().manual_seed(edit.seed) for edit in edits],
    ).images
    return images


def images_a_second(server: Any, clients: int, edits: Sequence[Edit], device: str) -> float:
    """Each client makes its share, one after the other; the server is closed then."""

    def client(number: int) -> None:
        for each in edits[number::clients]:
            server.submit(each).result()

    started = _now(device)
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(client, range(clients)))
    seconds = _now(device) - started
    server.close()
    return len(edits) / seconds


def batching(scale: Scale, device: str) -> dict[str, Any]:
    """Edits of one length; one at a time, it makes no difference how many clients there are."""
    pipe, sizes = editor(scale, device), SIZES[scale.recipe]

    def rate(max_batch: int, clients: int, count: int) -> float:
        edits = [edit(number, sizes.side, sizes.num_steps) for number in range(count)]
        return images_a_second(Engine(pipe, max_batch=max_batch), clients, edits, device)

    rate(sizes.max_batch, max(sizes.clients), max(sizes.clients))  # warms up
    single = rate(1, 4, sizes.clients[4])
    results = {"one at a time": {"images_a_second": round(single, 3)}}
    for clients, count in sizes.clients.items():
        together = rate(sizes.max_batch, clients, count)
        results[f"{clients} clients"] = {
            "images_a_second": round(together, 3),
            "ratio": round(together / single, 2),
        }
    return results


def mixed(scale: Scale, device: str) -> dict[str, Any]:
    """Edits of three lengths, the same for both."""
    pipe, sizes = editor(scale, device), SIZES[scale.recipe]
    results: dict[str, Any] = {}
    for clients, count in sizes.clients.items():
        # Each client's own follow one another through the lengths.
        lengths = [MIXED_STEPS[(i % clients + i // clients) % 3] for i in range(count)]
        edits = [edit(i, sizes.side, length) for i, length in enumerate(lengths)]
        whole = images_a_second(WholeRequests(pipe, sizes.max_batch), clients, edits, device)
        stepwise = images_a_second(Engine(pipe, max_batch=sizes.max_batch), clients, edits, device)
        results[f"{clients} clients"] = {
            "whole_images_a_second": round(whole, 3),
            "images_a_second": round(stepwise, 3),
            "ratio": round(stepwise / whole, 2),
        }
    return results


def difference(scale: Scale, device: str) -> dict[str, Any]:
    """The largest and the mean over all pixels; beside it what a batch changes in the pipeline."""
    pipe, sizes = editor(scale, device), SIZES[scale.recipe]
    edits = [edit(number, sizes.side, sizes.num_steps) for number in range(3)]
    alone = [_by_pipeline(pipe, [each])[0] for each in edits]
    engine = Engine(pipe, max_batch=3)
    jobs = [engine.submit(each) for each in edits]
    shared = [job.result() for job in jobs]
    engine.close()
    return {
        "engine": _differences(shared, alone),
        "pipeline, batched": _differences(_by_pipeline(pipe, edits), alone),
    }


def _differences(
    images: Sequence[PIL.Image.Image], expected: Sequence[PIL.Image.Image]
) -> dict[str, float]:
    far = np.abs(
        np.stack([np.asarray(image).astype(int) for image in images])
        - np.stack([np.asarray(image).astype(int) for image in expected])
    )
    return {"largest": int(far.max()), "mean": round(float(far.mean()), 4)}


GROUPS: Groups = {each.__name__: each for each in (steps, batching, mixed, difference)}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=list(GROUPS))
    words = parser.parse_args()
    if words.device == "cpu":
        torch.set_num_threads(1)
    with models(words.scale):
        groups = {name: GROUPS[name] for name in words.only}
        results = run(groups, SCALES[words.scale], words.device)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

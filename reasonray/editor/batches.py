"""What a training step sees: a function of the run's seed and the step alone.

So a run that was killed goes on with the batches it would have had, and the number of workers
changes nothing. Shapes: B samples of a step, C latent channels, H x W cells, T tokens, D width.
"""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from reasonray.core.sections import EditorConfig
from reasonray.editor.frozen import Array, Sample


class Samples(Protocol):
    """Cached features, or frozen models that compute them at each access."""

    ids: list[str]
    latent_shape: tuple[int, ...]
    null: Array

    def take(self, indices: Sequence[int]) -> list[Sample]:
        """The samples at some positions."""
        ...


@dataclass(frozen=True)
class Batch:
    """Samples of one step, on the CPU: features in float16, as they are kept, the rest in float32.

    Attributes:
        ids: of the records.
        source: BCHW, unscaled latents, zeros where the picture is dropped.
        target: BCHW, unscaled latents.
        states, mask: BTD and bool BT, the condition; the null's where it is dropped.
        taught: BTD, CLIP's encoding of the direct instruction; None without alignment.
        noise: BCHW.
        times: B, 0..1, to be scaled to the scheduler's timesteps.
    """

    ids: list[str]
    source: Tensor
    target: Tensor
    states: Tensor
    mask: Tensor
    taught: Tensor | None
    noise: Tensor
    times: Tensor


def split(ids: Sequence[str], fraction: float) -> tuple[list[int], list[int]]:
    """Positions to train on and to hold out.

    By the input that a sample was made of (`record.sample_id` without part and variation), so
    that no two samples of one input are on both sides.
    """
    inputs = [record.partition("/")[2].rpartition("/")[0] for record in ids]
    held = [zlib.crc32(name.encode()) / 2**32 < fraction for name in inputs]
    return (
        [i for i, out in enumerate(held) if not out],
        [i for i, out in enumerate(held) if out],
    )


class Batches:
    """The batches of a run.

    Args:
        samples: what is trained on.
        indices: which of them.
        config: sizes, ratios and dropout.
        seed: of the run.
    """

    def __init__(
        self, samples: Samples, indices: Sequence[int], config: EditorConfig, seed: int
    ) -> None:
        self.samples, self.indices = samples, np.array(indices)
        self.config, self.seed = config, seed
        self._drawn: tuple[int, tuple[Any, Any, Tensor, Tensor]] | None = None
        self._ordered: tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]] | None = None

    def positions(self, step: int) -> list[int]:
        """The samples of a step: epoch by epoch, each in an order of its own."""
        size, count = self.config.batch_size, len(self.indices)
        places = (divmod(place, count) for place in range(step * size, (step + 1) * size))
        return [int(self.indices[self._order(epoch)[offset]]) for epoch, offset in places]

    def part(self, step: int, places: range) -> Batch:
        """Some samples of a step.

        Args:
            step: 0 is the first.
            places: which of the step's `batch_size`.
        """
        reasoning, drop, times, noise = self._draw(step)
        positions = self.positions(step)
        return assemble(
            self.samples.take([positions[i] for i in places]),
            self.samples.null,
            reasoning=[bool(reasoning[i]) for i in places],
            without_picture=[bool(drop[i] < 2) for i in places],
            without_text=[bool(1 <= drop[i] < 3) for i in places],
            noise=noise[places.start : places.stop],
            times=times[places.start : places.stop],
        )

    def _draw(self, step: int) -> tuple[Any, Any, Tensor, Tensor]:
        """What is random in a step; its micro-batches ask one after another."""
        if self._drawn is None or self._drawn[0] != step:
            size = self.config.batch_size
            rng = np.random.default_rng((self.seed, step, 0xED17))
            reasoning = rng.random(size) < self.config.reasoning_ratio
            drop = rng.random(size) / max(self.config.dropout, 1e-9)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            times = torch.rand(size, generator=generator)
            noise = torch.randn(size, *self.samples.latent_shape, generator=generator)
            self._drawn = (step, (reasoning, drop, times, noise))
        return self._drawn[1]

    def _order(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if self._ordered is None or self._ordered[0] != epoch:
            order = np.random.default_rng((self.seed, epoch, 0x0EB0)).permutation(len(self.indices))
            self._ordered = (epoch, order)
        return self._ordered[1]


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each made by a thread while the one before is computed with."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def assemble(
    samples: Sequence[Sample],
    null: Array,
    *,
    reasoning: Sequence[bool],
    without_picture: Sequence[bool],
    without_text: Sequence[bool],
    noise: Tensor,
    times: Tensor,
) -> Batch:
    """Stack samples, with the conditions chosen and dropped."""
    states, sources = [], []
    for i, sample in enumerate(samples):
        condition = sample.reasoning if reasoning[i] else sample.direct
        states.append(null if without_text[i] else condition)
        sources.append(np.zeros_like(sample.source) if without_picture[i] else sample.source)
    states_BTD, mask_BT = padded(states)
    taught = [sample.taught for sample in samples if sample.taught is not None]
    return Batch(
        ids=[sample.id for sample in samples],
        source=_tensor(sources),
        target=_tensor([sample.target for sample in samples]),
        states=states_BTD,
        mask=mask_BT,
        taught=_tensor(taught) if len(taught) == len(samples) else None,
        noise=noise,
        times=times,
    )


def padded(states: Sequence[Array]) -> tuple[Tensor, Tensor]:
    """States of different lengths as float16 BTD and a bool mask BT, padded on the right."""
    longest = max(len(each) for each in states)
    states_BTD = torch.zeros(len(states), longest, states[0].shape[1], dtype=torch.float16)
    mask_BT = torch.zeros(len(states), longest, dtype=torch.bool)
    for i, each in enumerate(states):
        states_BTD[i, : len(each)] = torch.from_numpy(np.array(each))
        mask_BT[i, : len(each)] = True
    return states_BTD, mask_BT


def _tensor(arrays: Sequence[Array]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))

"""What a training step sees: a function of the run's seed and the step alone.

So a run that was killed goes on with the batches it would have had, and the number of workers
changes nothing. Shapes: B samples of a step, C latent channels, H x W cells, T tokens, D width.
"""

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor.frozen import Array, Sample, alike

Variant = tuple[int, int]
"""A record's position among the samples, and the number of one of its crops."""

WINDOW = 32
"""Row groups of the dataset that are drawn from at a time: some thousand records, and some
gigabytes where the pictures themselves are read."""

FEEDERS = 4
"""Threads that make batches ahead of a GPU: one copies a gigabyte a second or two, and a step of
1,024 on all tokens takes five."""

_T = TypeVar("_T")


class Samples(Protocol):
    """Cached features, or frozen models that compute them at each access."""

    ids: list[str]
    origins: list[str]
    groups: list[int]
    left_out: list[str]
    shapes: list[tuple[int, ...]]
    null: Array

    def take(self, variants: Sequence[Variant]) -> list[Sample]:
        """Some records' variants."""
        ...


@dataclass(frozen=True)
class Batch:
    """Samples of one step: features in float16, as they are kept, the rest in float32.

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

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; from pinned memory while that goes on computing."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The batch in memory that a GPU reads by itself."""
        return self._with(Tensor.pin_memory)

    def _with(self, moved: Callable[[Tensor], Tensor]) -> "Batch":
        tensors: dict[str, Any] = {
            name: moved(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **tensors)


def split(origins: Sequence[str], fraction: float) -> tuple[list[int], list[int]]:
    """Positions to train on and to hold out, all of one origin (`pairs.origin`) on one side."""
    held = [zlib.crc32(name.encode()) / 2**32 < fraction for name in origins]
    return (
        [i for i, out in enumerate(held) if not out],
        [i for i, out in enumerate(held) if out],
    )


class Batches:
    """The batches of a run, each of one shape.

    Args:
        samples: what is trained on.
        indices: which of them.
        config: sizes, ratios, dropout and how many crops there are of a record.
        seed: of the run.
        pinned: in memory that a GPU reads by itself.
    """

    def __init__(
        self,
        samples: Samples,
        indices: Sequence[int],
        config: EditorConfig,
        seed: int,
        pinned: bool = False,
    ) -> None:
        self.samples, self.indices = samples, np.array(indices)
        self.config, self.seed, self.pinned = config, seed, pinned
        shapes = [samples.shapes[index] for index in indices]
        parts = sorted(alike(shapes), key=lambda places: shapes[places[0]])
        self._of_shape = [self.indices[places] for places in parts]
        self._groups = [np.array([samples.groups[i] for i in part]) for part in self._of_shape]
        self._drawn: tuple[int, tuple[Any, Any, Tensor, Tensor]] | None = None
        self._ordered: tuple[tuple[int, int], NDArray[np.int64]] | None = None
        self._chosen: tuple[int, list[Variant]] | None = None

    def variants(self, step: int) -> list[Variant]:
        """The records of a step: epoch by epoch of one shape, each epoch another crop of each.

        Those of a row group stand together, so that a worker reads few.
        """
        shape, turn = self._turn(step)
        own, size = self._of_shape[shape], self.config.batch_size
        places = (divmod(place, len(own)) for place in range(turn * size, (turn + 1) * size))
        drawn = [(epoch, int(self._order(shape, epoch)[offset])) for epoch, offset in places]
        drawn.sort(key=lambda each: self.samples.groups[each[1]])
        return [(index, (epoch + index) % self.config.num_crops) for epoch, index in drawn]

    def _turn(self, step: int) -> tuple[int, int]:
        """Which shape a step has, and how many steps before it had the same one.

        Multiples of the golden section spread evenly: each shape has its part of any steps.
        """
        first = np.random.default_rng((self.seed, 0x5A9E)).random()
        places = (first + (math.sqrt(5) - 1) / 2 * np.arange(step + 1)) % 1
        ends = np.cumsum([len(own) for own in self._of_shape[:-1]]) / len(self.indices)
        shapes = np.searchsorted(ends, places, side="right")
        return int(shapes[-1]), int((shapes[:-1] == shapes[-1]).sum())

    def part(self, step: int, places: range) -> Batch:
        """Some samples of a step.

        Args:
            step: 0 is the first.
            places: which of the step's `batch_size`.
        """
        return self.later(step, places)()

    def later(self, step: int, places: range) -> Callable[[], Batch]:
        """`part`, drawn now and read when called, which may be in another thread."""
        reasoning, drop, times, noise = self._draw(step)
        variants = self._variants(step)
        return partial(
            assemble,
            self.samples,
            [variants[i] for i in places],
            reasoning=[bool(reasoning[i]) for i in places],
            without_picture=[bool(drop[i] < 2) for i in places],
            without_text=[bool(1 <= drop[i] < 3) for i in places],
            noise=noise[places.start : places.stop],
            times=times[places.start : places.stop],
            pinned=self.pinned,
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
            shape = self.samples.shapes[self._of_shape[self._turn(step)[0]][0]]
            noise = torch.randn(size, *shape, generator=generator)
            self._drawn = (step, (reasoning, drop, times, noise))
        return self._drawn[1]

    def _variants(self, step: int) -> list[Variant]:
        if self._chosen is None or self._chosen[0] != step:
            self._chosen = (step, self.variants(step))
        return self._chosen[1]

    def _order(self, shape: int, epoch: int) -> NDArray[np.int64]:
        """Row groups in an order of the epoch's, and within each `WINDOW` of them all records."""
        if self._ordered is None or self._ordered[0] != (shape, epoch):
            rng = np.random.default_rng((self.seed, epoch, 0x0EB0))
            names, numbers = np.unique(self._groups[shape], return_inverse=True)
            windows = rng.permutation(len(names))[numbers] // WINDOW
            order = np.lexsort((rng.random(len(numbers)), windows))
            self._ordered = ((shape, epoch), self._of_shape[shape][order])
        return self._ordered[1]


def of_all(
    samples: Samples, indices: Sequence[int], config: EditorConfig, seed: int, pinned: bool = False
) -> list[Batches]:
    """Batches whose first steps together have each of some samples once: one for each shape."""
    parts = [[indices[place] for place in places]
             for places in alike([samples.shapes[index] for index in indices])]  # fmt: skip
    sizes = [config.model_copy(update={"batch_size": len(part)}) for part in parts]
    return [
        Batches(samples, part, sized, seed, pinned)
        for part, sized in zip(parts, sizes, strict=True)
    ]


def ahead(makers: Iterable[Callable[[], _T]], num_threads: int = 1) -> Iterator[_T]:
    """What some functions give, in their order, each called by a thread while others are used."""
    with ThreadPoolExecutor(num_threads) as threads:
        coming: deque[Future[_T]] = deque()
        for maker in makers:
            coming.append(threads.submit(maker))
            if len(coming) > num_threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def assemble(
    samples: Samples,
    variants: Sequence[Variant],
    *,
    reasoning: Sequence[bool],
    without_picture: Sequence[bool],
    without_text: Sequence[bool],
    noise: Tensor,
    times: Tensor,
    pinned: bool = False,
) -> Batch:
    """Read and stack samples of one shape, with the conditions chosen and dropped."""
    taken = samples.take(variants)
    states, sources = [], []
    for i, sample in enumerate(taken):
        states.append((samples.null,) if without_text[i] else sample.condition(reasoning[i]))
        sources.append(np.zeros_like(sample.source) if without_picture[i] else sample.source)
    states_BTD, mask_BT = padded(states, pinned)
    taught = [sample.taught for sample in taken if sample.taught is not None]
    batch = Batch(
        ids=[sample.id for sample in taken],
        source=_tensor(sources),
        target=_tensor([sample.target for sample in taken]),
        states=states_BTD,
        mask=mask_BT,
        taught=_tensor(taught) if len(taught) == len(taken) else None,
        noise=noise,
        times=times,
    )
    # The states, which are nearly all of it, are pinned already: they stay where they are.
    return batch.pinned() if pinned else batch


def padded(states: Sequence[Sequence[Array]], pinned: bool = False) -> tuple[Tensor, Tensor]:
    """States of different lengths as float16 BTD and a bool mask BT, padded on the right.

    Args:
        states: of each sample, in pieces that follow one another; TD.
        pinned: in memory that a GPU reads by itself.
    """
    lengths = [sum(len(piece) for piece in pieces) for pieces in states]
    shape = len(states), max(lengths), states[0][0].shape[1]
    states_BTD = torch.empty(*shape, dtype=torch.float16, pin_memory=pinned)
    mask_BT = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    # Each number is copied once, by NumPy, which lets other threads run meanwhile.
    for sample_TD, pieces, length in zip(states_BTD.numpy(), states, lengths, strict=True):
        start = 0
        for piece in pieces:
            sample_TD[start : start + len(piece)] = piece
            start += len(piece)
        sample_TD[length:] = 0
    return states_BTD, mask_BT


def _tensor(arrays: Sequence[Array]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))

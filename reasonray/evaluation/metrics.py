"""The field's five metrics of an edit beside its truth, as MagicBrush defines them.

L1 and L2 are the mean absolute and squared difference of RGB 0..1, CLIP-I and DINO the cosine of
the two pictures' embeddings, CLIP-T that of the edited picture and the truth's caption. Every pair
gets its own value; a table shows their means. The figures belong to the checkpoints: a larger CLIP
gives other ones.

https://github.com/OSU-NLP-Group/MagicBrush/blob/main/evaluation/image_eval.py
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig
from reasonray.evaluation.items import INPUT_METRICS, TRUTH_METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from reasonray.models.embedders import Images

BATCH = 32
"""Pairs in one pass of the models."""


class Metrics:
    """All five, with their two models loaded.

    Args:
        clip, dino: the checkpoints, each of which gives figures of its own; published figures are
            those of the section evaluation's defaults.
    """

    def __init__(self, clip: ModelConfig, dino: ModelConfig) -> None:
        from reasonray.models.embedders import Clip, Dino

        self._clip, self._dino = Clip(clip), Dino(dino)

    def __call__(
        self, outputs: "Images", truths: "Images", captions: Sequence[str]
    ) -> dict[str, list[float]]:
        """For each of `items.TRUTH_METRICS` a value for each pair.

        Args:
            outputs: what the editor made.
            truths: what it should have made.
            captions: of the truths: what the edited picture should show.
        """
        pairs = list(zip(outputs, truths, captions, strict=True))
        scores: dict[str, list[float]] = {name: [] for name in TRUTH_METRICS}
        for start in range(0, len(pairs), BATCH):
            columns = self._measure(*zip(*pairs[start : start + BATCH], strict=True))
            for name, values in zip(TRUTH_METRICS, columns, strict=True):
                scores[name] += values
        return scores

    def _measure(
        self, outputs: "Images", truths: "Images", captions: Sequence[str]
    ) -> tuple[list[float], ...]:
        distances = [distance(*pair) for pair in zip(outputs, truths, strict=True)]
        embedded = self._clip.images(outputs)
        return (
            [l1 for l1, _ in distances],
            [l2 for _, l2 in distances],
            _cosines(embedded, self._clip.images(truths)),
            _cosines(self._dino.images(outputs), self._dino.images(truths)),
            _cosines(embedded, self._clip.texts(captions)),
        )


class InputMetrics:
    """Emu Edit's five, beside the picture before, where there is no true one; models loaded.

    CLIP-dir is the cosine of the step from one picture's embedding to the other's with that from
    one caption's to the other's, CLIP-im and DINO that of the two pictures, CLIP-out that of the
    edited picture and its caption, L1 as `distance` gives it. arXiv 2311.10089, section 6.

    Args:
        clip, dino: as of `Metrics`.
    """

    def __init__(self, clip: ModelConfig, dino: ModelConfig) -> None:
        from reasonray.models.embedders import Clip, Dino

        self._clip, self._dino = Clip(clip), Dino(dino)

    def __call__(
        self,
        outputs: "Images",
        inputs: "Images",
        output_captions: Sequence[str],
        input_captions: Sequence[str],
    ) -> dict[str, list[float]]:
        """For each of `items.INPUT_METRICS` a value for each pair.

        CLIP-dir is 0 where the pictures are the same, or the captions.

        Args:
            outputs: what the editor made.
            inputs: what it was given.
            output_captions: what the edited pictures should show.
            input_captions: what the others show.
        """
        rows = list(zip(outputs, inputs, output_captions, input_captions, strict=True))
        scores: dict[str, list[float]] = {name: [] for name in INPUT_METRICS}
        for start in range(0, len(rows), BATCH):
            columns = self._measure(*zip(*rows[start : start + BATCH], strict=True))
            for name, values in zip(INPUT_METRICS, columns, strict=True):
                scores[name] += values
        return scores

    def _measure(
        self,
        outputs: "Images",
        inputs: "Images",
        output_captions: Sequence[str],
        input_captions: Sequence[str],
    ) -> tuple[list[float], ...]:
        after, before = self._clip.images(outputs), self._clip.images(inputs)
        captions = self._clip.texts(output_captions)
        step, caption_step = after - before, captions - self._clip.texts(input_captions)
        # Steps of the rounding's size have no direction.
        lengths = (step.norm(dim=-1) * caption_step.norm(dim=-1)).clamp_min(1e-6)
        return (
            _cosines(step / lengths[:, None], caption_step),
            _cosines(after, before),
            _cosines(after, captions),
            [distance(*pair)[0] for pair in zip(outputs, inputs, strict=True)],
            _cosines(self._dino.images(outputs), self._dino.images(inputs)),
        )


def distance(output: PIL.Image.Image, truth: PIL.Image.Image) -> tuple[float, float]:
    """L1 and L2, after resizing the output to the truth's size with PIL's default filter."""
    a, b = (
        np.asarray(image, np.float64) / 255
        for image in (output.convert("RGB").resize(truth.size), truth.convert("RGB"))
    )
    return float(np.abs(a - b).mean()), float(np.square(a - b).mean())


def means(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean of each metric."""
    return {name: float(np.mean(values)) for name, values in scores.items()}


def difference_interval(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    clusters: Sequence[object] | None = None,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """The paired bootstrap's percentile interval of mean(ours) - mean(theirs).

    Args:
        ours, theirs: one metric of two editors, on the same pairs in the same order.
        clusters: of each pair what it has in common with others, such as its picture: they are
            drawn together, as two values of one picture tell less than those of two. None: nothing.
        level: how often such an interval holds the true difference, 0..1.
        num_resamples: of the pairs, with replacement.
        seed: of the resampling.

    Raises:
        UserError: not the same pairs, or none.
    """
    if len(ours) != len(theirs) or not len(ours):
        raise UserError(
            f"a paired interval of {len(ours)} and {len(theirs)} values: "
            "measure both editors on the same pairs, at least one"
        )
    differences: NDArray[np.float64] = np.subtract(ours, theirs, dtype=np.float64)
    return mean_interval(
        differences, clusters=clusters, level=level, num_resamples=num_resamples, seed=seed
    )


_DRAWN_AT_ONCE = 2**18


def mean_interval(
    values: Sequence[float] | NDArray[np.float64],
    *,
    clusters: Sequence[object] | None = None,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """The bootstrap's percentile interval of a mean.

    Args:
        values: at least one.
        clusters, level, num_resamples, seed: as of `difference_interval`.
    """
    numbers = {cluster: n for n, cluster in enumerate(dict.fromkeys(clusters or ()))}
    places = [numbers[cluster] for cluster in clusters] if clusters else range(len(values))
    sums, sizes = np.bincount(places, np.asarray(values, np.float64)), np.bincount(places)
    rng, count = np.random.default_rng(seed), len(sums)
    # Many resamples at a time: of few values, one at a time takes fifty times as long.
    step = max(1, _DRAWN_AT_ONCE // count)
    drawn = []
    for first in range(0, num_resamples, step):
        chosen = rng.integers(count, size=(min(step, num_resamples - first), count))
        drawn.append(sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _cosines(a: "Tensor", b: "Tensor") -> list[float]:
    values: list[float] = (a * b).sum(-1).tolist()
    return values

import math
import time
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import torch

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor import features
from reasonray.editor.batches import WINDOW, Batches, ahead, of_all, padded, split
from reasonray.editor.pairs import origin

ALIKE = range(0, 20, 3)
"""The records whose pictures have one shape."""


def test_an_epoch_sees_each_sample_of_a_shape_once(
    samples: features.Features, config: EditorConfig
) -> None:
    batches = Batches(samples, range(20), config, seed=3)
    seen: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for step in range(60):
        variants = batches.variants(step)
        [shape] = {samples.shapes[index] for index, _ in variants}
        seen.setdefault(shape, []).extend(variants)
    shapes = Counter(samples.shapes)
    assert set(seen) == set(shapes)
    for shape, variants in seen.items():
        # As often as the others, in turn.
        assert abs(len(variants) / 240 - shapes[shape] / 20) < 0.05
        count = shapes[shape]
        own = {index for index, each in enumerate(samples.shapes) if each == shape}
        # A step may begin the next epoch: whole epochs begin where steps do.
        whole = math.lcm(count, config.batch_size)
        assert Counter(index for index, _ in variants[:whole]) == dict.fromkeys(own, whole // count)
        # Another crop of each in the next epoch, and with as many epochs as crops all of them.
        assert set(variants) == {(index, k) for index in own for k in range(2)}
    again = Batches(samples, range(20), config, seed=3)
    assert again.variants(17) == batches.variants(17)
    assert batches.part(17, range(4)).noise.shape[1:] == samples.shapes[batches.variants(17)[0][0]]


def test_all_of_some_samples_are_in_batches_of_each_shape(
    samples: features.Features, config: EditorConfig
) -> None:
    parts = of_all(samples, [3, 4, 5, 6, 11], config, seed=0)
    seen = [[index for index, _ in each.variants(0)] for each in parts]
    assert sorted(index for indices in seen for index in indices) == [3, 4, 5, 6, 11]
    assert [len(indices) for indices in seen] == [2, 1, 2]
    for each in parts:
        batch = each.part(0, range(each.config.batch_size))
        assert batch.source.shape == batch.target.shape == batch.noise.shape


class Grouped:
    """As many records as a large dataset has, in row groups of a hundred."""

    def __init__(self, count: int) -> None:
        self.ids = self.origins = [str(number) for number in range(count)]
        self.groups = [number // 100 for number in range(count)]
        self.left_out: list[str] = []
        self.shapes: list[tuple[int, ...]] = [(1, 1, 1)] * count
        self.null = np.zeros((1, 1), np.float16)

    def take(self, variants: Any) -> Any:
        raise AssertionError("nothing is to be read")


def test_a_worker_opens_few_row_groups_and_each_once_an_epoch(config: EditorConfig) -> None:
    settings = config.model_copy(update={"batch_size": 1000})
    batches = Batches(Grouped(20_000), range(20_000), settings, seed=0)
    opened: list[list[int]] = []
    for step in range(20):
        groups = [index // 100 for index, _ in batches.variants(step)[:500]]
        assert len(set(groups)) <= 2 * WINDOW
        assert groups == sorted(groups)
        opened.append(groups)
    # Read whole for each worker and step, with a window kept: not for each of 10,000 samples.
    reads, kept = 0, dict[int, None]()
    for group in (group for groups in opened for group in groups):
        if group not in kept:
            reads += 1
            kept[group] = None
            if len(kept) > WINDOW:
                kept.pop(next(iter(kept)))
    assert reads < 400
    other = Batches(Grouped(20_000), range(20_000), settings, seed=0)
    assert other.variants(17) == batches.variants(17)


def test_pairs_of_one_prompt_are_on_one_side_of_the_split() -> None:
    rows = [
        {"source": source, "source_id": f"{prompt:07}/{seed}", "input_caption": f"a {prompt}"}
        for source in ("instructpix2pix", "mini-instructpix2pix", "instructpix2pix-parquet-ab12cd")
        for prompt in range(100)
        for seed in range(4)
    ]
    trained_on, held_out = split([origin(row) for row in rows], 0.3)
    sides = [
        {(rows[i]["source"], rows[i]["input_caption"]) for i in side}
        for side in (trained_on, held_out)
    ]
    assert sides[0].isdisjoint(sides[1])
    assert 0.2 < len(held_out) / len(rows) < 0.4
    photos = [{"source": "folder", "source_id": f"{n}", "input_caption": "a dog"} for n in "abc"]
    assert len({origin(row) for row in photos}) == 3


def test_several_threads_give_batches_in_their_order(
    samples: features.Features, config: EditorConfig
) -> None:
    def slowly(number: int) -> int:
        time.sleep(0.02 * (number % 3))
        return number

    assert list(ahead((partial(slowly, n) for n in range(20)), 4)) == list(range(20))
    batches = Batches(samples, ALIKE, config, seed=3)
    makers = (batches.later(step, range(4)) for step in range(8))
    again = Batches(samples, ALIKE, config, seed=3)
    for step, batch in enumerate(ahead(makers, 4)):
        alone = again.part(step, range(4))
        assert batch.ids == alone.ids
        assert torch.equal(batch.states, alone.states)
        assert torch.equal(batch.noise, alone.noise)


def test_padding_is_zero_and_masked_and_pieces_follow_one_another() -> None:
    rng = np.random.default_rng(0)
    pieces = [
        [rng.random((rows, 4)).astype(np.float16) for rows in lengths]
        for lengths in ((3, 2), (0, 7), (1,))
    ]
    states, mask = padded(pieces)
    assert states.shape == (3, 7, 4)
    for sample, allowed, each in zip(states.numpy(), mask.numpy(), pieces, strict=True):
        whole = np.concatenate(each)
        assert np.array_equal(sample[allowed], whole)
        assert allowed.sum() == len(whole)
        assert not sample[~allowed].any()


def test_ratio_and_dropout_are_those_of_the_recipe(
    samples: features.Features, config: EditorConfig
) -> None:
    wide = config.model_copy(update={"batch_size": 400, "reasoning_ratio": 0.25, "dropout": 0.1})
    batch = Batches(samples, ALIKE, wide, seed=1).part(0, range(400))
    no_picture = (batch.source == 0).flatten(1).all(1)
    null = torch.from_numpy(samples.null.astype(np.float32))
    no_text = torch.tensor(
        [bool(m.sum() == len(null)) and torch.equal(s[: len(null)], null)
         for s, m in zip(batch.states, batch.mask, strict=True)]
    )  # fmt: skip
    assert 0.15 < no_picture.float().mean() < 0.25
    assert 0.15 < no_text.float().mean() < 0.25
    assert 0.06 < (no_picture & no_text).float().mean() < 0.15
    said = {
        sample.id: len(sample.reasoning)
        for sample in samples.take([(index, 0) for index in range(20)])
    }
    lengths = {
        sample.id: len(sample.direct)
        for sample in samples.take([(index, 0) for index in range(20)])
    }
    told = [
        int(m.sum()) == said[name]
        for name, m, dropped in zip(batch.ids, batch.mask, no_text, strict=True)
        if not dropped and said[name] != lengths[name]
    ]
    assert 0.17 < sum(told) / len(told) < 0.33

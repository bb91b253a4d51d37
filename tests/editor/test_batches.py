import numpy as np
import torch

from reasonray.core.sections import EditorConfig
from reasonray.editor import features
from reasonray.editor.batches import Batches


def test_an_epoch_sees_each_sample_once(samples: features.Features, config: EditorConfig) -> None:
    batches = Batches(samples, range(20), config, seed=3)
    epoch = [place for step in range(5) for place in batches.positions(step)]
    assert sorted(epoch) == list(range(20))
    following = [place for step in range(5, 10) for place in batches.positions(step)]
    assert sorted(following) == list(range(20))
    assert following != epoch


def test_ratio_and_dropout_are_those_of_the_recipe(
    samples: features.Features, config: EditorConfig
) -> None:
    wide = config.model_copy(update={"batch_size": 400, "reasoning_ratio": 0.25, "dropout": 0.1})
    batch = Batches(samples, range(20), wide, seed=1).part(0, range(400))
    no_picture = (batch.source == 0).flatten(1).all(1)
    null = torch.from_numpy(samples.null.astype(np.float32))
    no_text = torch.tensor(
        [bool(m.sum() == len(null)) and torch.equal(s[: len(null)], null)
         for s, m in zip(batch.states, batch.mask, strict=True)]
    )  # fmt: skip
    assert 0.15 < no_picture.float().mean() < 0.25
    assert 0.15 < no_text.float().mean() < 0.25
    assert 0.06 < (no_picture & no_text).float().mean() < 0.15
    said = {sample.id: len(sample.reasoning) for sample in samples.take(range(20))}
    lengths = {sample.id: len(sample.direct) for sample in samples.take(range(20))}
    told = [
        int(m.sum()) == said[name]
        for name, m, dropped in zip(batch.ids, batch.mask, no_text, strict=True)
        if not dropped and said[name] != lengths[name]
    ]
    assert 0.17 < sum(told) / len(told) < 0.33

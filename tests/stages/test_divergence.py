from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonray.core import recipe as recipes
from reasonray.core.images import encode_png
from reasonray.core.record import Row
from reasonray.core.sections import DivergenceConfig, ImagesConfig
from reasonray.sources import plan
from reasonray.sources.mini.formats import FAILED_EVERY, write_instructpix2pix
from reasonray.stages.divergence import Divergence, mean_squared_difference, rank_threshold
from reasonray.stages.load import Load


def plain(value: int, size: tuple[int, int] = (40, 30)) -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, (value, value, value))


def row(after: int, part: str = "I") -> Row:
    return {
        "id": str(after),
        "part": part,  # type: ignore[typeddict-item]
        "input_image": encode_png(plain(0)),
        "edited_image": encode_png(plain(after)),
    }


def test_it_is_the_mean_square_of_values_from_0_to_1() -> None:
    assert mean_squared_difference(plain(7), plain(7), 8) == 0
    assert mean_squared_difference(plain(0), plain(255), 8) == 1
    assert mean_squared_difference(plain(0), plain(51), 8) == pytest.approx(0.04)
    red = PIL.Image.new("RGB", (9, 9), (255, 0, 0))
    assert mean_squared_difference(plain(0, (9, 9)), red, 9) == pytest.approx(1 / 3)


def test_it_agrees_with_numpy_at_the_images_own_size() -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    expected = ((a / 255.0 - b / 255.0) ** 2).mean()
    images = PIL.Image.fromarray(a), PIL.Image.fromarray(b)
    assert mean_squared_difference(*images, 16) == pytest.approx(expected)


def test_images_of_different_sizes_are_compared() -> None:
    assert mean_squared_difference(plain(9), plain(9, (80, 100)), 16) == 0


def test_pairs_below_an_absolute_threshold_are_rejected() -> None:
    config = DivergenceConfig(threshold=0.04, worst_fraction=None, size=8)
    below, at, above = Divergence(config, seed=0)([row(50), row(51), row(52)])
    assert (below["stage"], below["reason"]) == ("divergence", "unchanged")
    assert below["scores"]["divergence"] == pytest.approx((50 / 255) ** 2)
    assert at.get("stage") is None
    assert above.get("stage") is None


def test_without_thresholds_pairs_are_only_measured() -> None:
    config = DivergenceConfig(threshold=None, worst_fraction=None, size=8)
    (same,) = Divergence(config, seed=0)([row(0)])
    assert same.get("stage") is None
    assert same["scores"] == {"divergence": 0}


def test_the_stricter_of_both_thresholds_counts() -> None:
    config = DivergenceConfig(threshold=0.04, worst_fraction=0.1, size=8)
    for rank, reasons in ((0.01, ["unchanged", None]), (0.9, ["unchanged", "unchanged"])):
        stage = Divergence(config, seed=0, threshold=rank)
        assert [r.get("reason") for r in stage([row(50), row(100)])] == reasons


def test_other_parts_pass_untouched() -> None:
    config = DivergenceConfig(threshold=0.5, worst_fraction=None, size=8)
    alone: Row = {"id": "x", "part": "III", "input_image": encode_png(plain(0))}
    assert Divergence(config, seed=0)([alone]) == [alone]


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True),
    percent=st.integers(0, 100),
)
def test_the_rank_rejects_exactly_the_worst_fraction(values: list[float], percent: int) -> None:
    threshold = rank_threshold(iter(values), percent / 100)
    rejected = sorted(value for value in values if threshold is not None and value < threshold)
    assert rejected == sorted(values)[: percent * len(values) // 100]


def test_ties_at_the_rank_are_rejected_together() -> None:
    threshold = rank_threshold([0.0, 0.0, 0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0], 0.1)
    assert threshold is not None
    assert 0 < threshold < 0.5


def test_a_fraction_of_less_than_one_pair_rejects_none() -> None:
    assert rank_threshold([0.1, 0.2], 0.1) is None
    assert rank_threshold([], 0.5) is None


def test_the_failed_edits_of_a_mini_world_are_its_worst_tenth(tmp_path: Path) -> None:
    write_instructpix2pix(tmp_path, 40)
    source = {"format": "instructpix2pix", "path": str(tmp_path)}
    content = recipes.load("mini").model_dump()
    recipe = recipes.parse({**content, "sources": [source], "parts": ["I"]}, name="test")
    loaded = Load(ImagesConfig(), seed=0)(list(plan(recipe, tmp_path, [])))
    open_config = DivergenceConfig(threshold=None, worst_fraction=0.1, size=96)
    measured = Divergence(open_config, seed=0)(loaded)
    values = [r["scores"]["divergence"] for r in measured if r.get("stage") is None]
    threshold = rank_threshold(values, 0.1)
    judged = Divergence(open_config, seed=0, threshold=threshold)(loaded)
    rejected = [r["source_id"] for r in judged if r.get("reason") == "unchanged"]
    failed = [row["source_id"] for row in loaded[FAILED_EVERY - 1 : 40 : FAILED_EVERY]]
    assert rejected == failed

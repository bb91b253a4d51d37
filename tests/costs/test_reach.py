import pytest

from reasonray.core.recipe import load
from reasonray.core.sections import PoolConfig
from reasonray.costs.hardware import KINDS
from reasonray.costs.reach import ASSUMED, MEASURED, Reach, reach
from reasonray.costs.work import stage_work

H200 = KINDS["h200"]


@pytest.mark.parametrize(
    ("stage", "seconds_a_row"),
    # As gpu.py printed them on an H200, in batches of 16.
    [("ground", 0.0337), ("paint", 0.5362)],
)
def test_what_was_measured_comes_out(stage: str, seconds_a_row: float) -> None:
    pool = PoolConfig(stages=[stage], num_gpus=1, batch_size=16)
    work = stage_work(stage, load("paper"), pool, H200)
    assert work.seconds(H200, reach(stage, H200, None)) == pytest.approx(seconds_a_row, rel=0.05)


def test_one_figure_for_all_replaces_the_measured_ones() -> None:
    assert reach("paint", H200, 0.5) == Reach(0.5, MEASURED["paint"].call_s)


def test_cores_and_unmeasured_models_take_the_assumption() -> None:
    assert reach("paint", KINDS["cpu"], None) == ASSUMED
    assert reach("rewrite", H200, None) == ASSUMED

from importlib import import_module

import pytest

from reasonray.core.recipe import load
from reasonray.stages import SERVED, needed
from reasonray.stages.asks import Asks
from reasonray.stages.stage import Stage


def test_each_stage_serves_the_parts_that_are_said_of_it() -> None:
    for name in SERVED:
        import_module(f"reasonray.stages.{name}")
    known = [*Stage.__subclasses__(), *Asks.__subclasses__()]
    shipped = [c for c in known if c is not Asks and c.__module__.startswith("reasonray.stages.")]
    assert {stage.name: stage.parts for stage in shipped} == SERVED


@pytest.mark.parametrize(
    ("parts", "stages"),
    [
        (["I"], ["load divergence", "rewrite select", "quality"]),
        (["III"], ["load", "caption categories", "ground", "propose", "paint", "quality"]),
        (["I", "II"], [" ".join(pool.stages) for pool in load("paper").pools]),
    ],
)
def test_pools_keep_the_stages_that_have_work(parts: list[str], stages: list[str]) -> None:
    assert [" ".join(pool.stages) for pool in needed(load("paper"), parts).pools] == stages

import subprocess
import sys

import pytest

from reasonray.core.recipe import load
from reasonray.core.sections import ASKING, StagesConfig
from reasonray.stages import STAGES, needed, stage_class
from reasonray.stages.asks import Asks

SERVED = {
    "load": ("I", "II", "III"),
    "divergence": ("I",),
    "rewrite": ("I",),
    "select": ("I",),
    "caption": ("II", "III"),
    "categories": ("II", "III"),
    "ground": ("II", "III"),
    "propose": ("II", "III"),
    "paint": ("II", "III"),
    "quality": ("I", "II", "III"),
}


def test_the_stages_are_those_of_a_recipe_and_serve_the_paper_s_parts() -> None:
    assert list(STAGES) == ["load", *StagesConfig.model_fields]
    classes = [stage_class(name) for name in STAGES]
    assert {stage.name: stage.parts for stage in classes} == SERVED


def test_the_stages_that_ask_are_those_that_are_said_to() -> None:
    assert {name for name in STAGES if issubclass(stage_class(name), Asks)} == ASKING.keys()


def test_what_stages_declare_is_known_without_their_libraries() -> None:
    script = (
        "import sys; from reasonray.stages import STAGES, stage_class; "
        "print([stage_class(name).writes for name in STAGES] and "
        "{'torch', 'transformers', 'diffusers', 'spacy', 'openai', 'ray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


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

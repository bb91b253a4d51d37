"""`reasonray benchmark`: what is generated for it, at first and again."""

import json
from pathlib import Path

import pytest
import tiny_base

from reasonray.cli.main import call
from reasonray.core.place import Place
from reasonray.core.recipe import Recipe
from reasonray.dataset.manifest import MANIFEST, read_manifest
from reasonray.evaluation.subjects import opened
from reasonray.generation import run

NUM_INPUTS = 5


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """Those that something was generated with: so many samples as are wanted, or as there are."""
    recipes: list[Recipe] = []

    def generate(recipe: Recipe, output: Place) -> None:
        recipes.append(recipe)
        if read_manifest(output) is not None:
            return
        assert isinstance(output, Path)
        assert recipe.accepted is not None
        output.mkdir(parents=True)
        rows = [
            tiny_base.sample(number, "III", selected_category="bee", target_category="honey")
            for number in range(min(recipe.accepted, NUM_INPUTS))
        ]
        path = tiny_base.data(output, rows) / MANIFEST
        manifest = json.loads(path.read_text())
        manifest["recipe"]["accepted"] = recipe.accepted
        path.write_text(json.dumps(manifest))

    monkeypatch.setattr(run, "generate", generate)
    return recipes


def line(output: Path, count: int, *words: str) -> list[str]:
    return ["benchmark", "mini", "--count", str(count), "--output", str(output), *words]


def test_parts_are_made_that_can_be_asked_for_plainly(
    recipes: list[Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(line(tmp_path / "out", 3)) == 0
    [recipe] = recipes
    assert (recipe.parts, recipe.accepted) == (["II", "III"], 3)
    assert len(opened(str(tmp_path / "out")).items) == 9
    assert call(line(tmp_path / "other", 3, "--set", "parts=[I]")) == 2
    assert "made of parts II and III" in capsys.readouterr().err


def test_what_a_shortage_s_message_advises_works(
    recipes: list[Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(line(tmp_path / "out", NUM_INPUTS + 2)) == 2
    error = capsys.readouterr().err
    assert "5 samples that can be asked for plainly and with reasoning, 7 wanted" in error
    assert "lower --count" in error
    # Its settings are those of before: nothing is refused.
    assert call(line(tmp_path / "out", NUM_INPUTS)) == 0
    assert [recipe.accepted for recipe in recipes] == [NUM_INPUTS + 2] * 2


def test_what_cannot_end_well_is_not_begun(
    recipes: list[Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = str(tmp_path / "nowhere")
    assert call(line(tmp_path / "out", 3, "--against", against)) == 2
    assert "nowhere: no complete output" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    assert call(line(tmp_path / "file", 3)) == 2
    assert "file: cannot be used (Not a directory)" in capsys.readouterr().err
    assert recipes == []

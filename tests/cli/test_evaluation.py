"""`reasonray benchmark`: what is generated for it, what it refuses, and what it leaves."""

import json
from pathlib import Path

import pytest
import tiny_base
from tiny_base import EDITED

from reasonray.cli.main import call
from reasonray.core.images import decode, encode_jpeg
from reasonray.core.place import Place
from reasonray.core.recipe import Recipe, load
from reasonray.core.record import Row
from reasonray.dataset.manifest import MANIFEST, read_manifest
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.creation import GENERATED
from reasonray.evaluation.subjects import opened
from reasonray.generation import run

NUM_INPUTS = 5
SOURCE, PARTS = "v3det=/nowhere", "parts=[III]"


def sample(number: int, **changes: object) -> Row:
    # A source whose ids mean one picture wherever they lie.
    changes = {"source": "v3det", "selected_category": "bee", "target_category": "honey", **changes}
    return tiny_base.sample(number, "III", **changes)


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    """The command, of which all but the benchmark itself is there: of the split test."""
    made = load("mini", [PARTS, "sources.0.split=test"], [SOURCE], accepted=2)
    tiny_base.data(tmp_path / "out" / GENERATED, [sample(0), sample(1)], made)
    words = ["benchmark", "mini", "--source", SOURCE, "--set", PARTS, "--count", "2"]
    return [*words, "--output", str(tmp_path / "out")]


def test_what_was_generated_of_the_test_split_becomes_a_benchmark(
    line: list[str], tmp_path: Path
) -> None:
    others = tiny_base.data(tmp_path / "others", [sample(4), sample(5)])
    assert call([*line, "--against", str(others)]) == 0
    items = Ours(str(tmp_path / "out")).items()
    assert {item.id.partition("#")[0] for item in items} == {f"III/toy/000{n}/0" for n in (0, 1)}
    assert {item.group for item in items} == {"direct", "reasoning"}


@pytest.mark.parametrize("by", ["id", "looks"])
def test_a_picture_that_was_trained_on_is_named_and_no_benchmark_is_left(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    picture = sample(1)["input_image"]
    assert picture is not None
    smaller = decode(picture).resize((30, 30))
    twin = (
        sample(1, input_image=tiny_base.picture(EDITED + 8))
        if by == "id"
        else sample(7, input_image=encode_jpeg(smaller))
    )
    others = tiny_base.data(tmp_path / "others", [sample(4)])
    trained = tiny_base.data(tmp_path / "trained", [sample(5), twin])
    assert call([*line, "--against", str(others), "--against", str(trained)]) == 2
    [*_, error] = capsys.readouterr().err.splitlines()
    assert f"{trained}: sample {twin['id']} has the picture of III/toy/0001/0" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == [GENERATED]


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


def command(output: Path, count: int, *words: str) -> list[str]:
    return ["benchmark", "mini", "--count", str(count), "--output", str(output), *words]


def test_parts_are_made_that_can_be_asked_for_plainly(
    recipes: list[Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command(tmp_path / "out", 3)) == 0
    [recipe] = recipes
    assert (recipe.parts, recipe.accepted) == (["II", "III"], 3)
    assert len(opened(str(tmp_path / "out")).items) == 9
    assert call(command(tmp_path / "other", 3, "--set", "parts=[I]")) == 2
    assert "made of parts II and III" in capsys.readouterr().err


def test_what_a_shortage_s_message_advises_works(
    recipes: list[Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command(tmp_path / "out", NUM_INPUTS + 2)) == 2
    error = capsys.readouterr().err
    assert "5 samples that can be asked for plainly and with reasoning, 7 wanted" in error
    assert "lower --count" in error
    # Its settings are those of before: nothing is refused.
    assert call(command(tmp_path / "out", NUM_INPUTS)) == 0
    assert [recipe.accepted for recipe in recipes] == [NUM_INPUTS + 2] * 2


def test_what_cannot_end_well_is_not_begun(
    recipes: list[Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = str(tmp_path / "nowhere")
    assert call(command(tmp_path / "out", 3, "--against", against)) == 2
    assert "nowhere: no complete output" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    assert call(command(tmp_path / "file", 3)) == 2
    assert "file: cannot be used (Not a directory)" in capsys.readouterr().err
    assert recipes == []

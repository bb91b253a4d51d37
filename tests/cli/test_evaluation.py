"""`reasonray benchmark`, whose generation is done: what it refuses, and what it leaves."""

from pathlib import Path

import pytest
import tiny_base
from tiny_base import EDITED

from reasonray.cli.main import call
from reasonray.core.images import decode, encode_jpeg
from reasonray.core.recipe import load
from reasonray.core.record import Row
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.making import GENERATED

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

import json
from pathlib import Path

import pytest

from reasonray.cli.main import call


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    ours.write_text("id,editor,fit\n1,a,5\n1,b,2\n2,a,4\n2,b,4\n3,a,\n")
    theirs.write_text("id,editor,reasoning\n1,a,4\n1,b,1\n2,a,3\n2,b,5\n")
    return str(ours), str(theirs)


def test_the_tables_say_tau_pairs_bias_and_confusion(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["agreement", *files, "--axis", "fit=reasoning"]) == 0
    output = capsys.readouterr().out
    assert f"{files[0]}: 5 rows, 1 without a score" in output
    assert "## fit = reasoning" in output
    assert "right pairs    0.750" in output
    assert "2 pairs of one id" in output
    assert "mean less mean +0.500" in output
    assert "| 4 | 0 | 1 | 0 | 1 |" in output


def test_json_holds_the_same(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["agreement", *files, "--axis", "fit=reasoning", "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert (result["accuracy"]["value"], result["num_pairs"]) == (0.75, 2)
    assert {"first": 4, "second": 5, "pictures": 1} in result["confusion"]


def test_people_s_choices_are_compared_by_pairs_alone(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choices = tmp_path / "choices.csv"
    choices.write_text("id,chosen,rejected\n1,a,b\n2,b,a\n")
    assert call(["agreement", files[0], str(choices)]) == 0
    output = capsys.readouterr().out
    assert "right pairs    0.750" in output
    assert "tau" not in output
    assert call(["agreement", str(choices), files[0]]) == 2


def test_a_mistake_is_one_line(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["agreement", *files]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no axis in common" in error

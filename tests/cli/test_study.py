import json
from pathlib import Path

import pytest
from studies import choose, write_inputs

from reasonray.cli.main import call
from reasonray.evaluation.study.store import Store


def test_a_study_is_laid_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = write_inputs(tmp_path, num_items=2)
    line = ["study", "create", str(tmp_path / "study"), "--items", str(inputs.items)]
    for name, folder in inputs.editors.items():
        line += ["--editor", f"{name}={folder}"]
    assert call([*line, "--workers", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 workers, 2 questions each, the best of 3 pictures"
    assert lines[-1] == f"reasonray study serve {tmp_path / 'study'}"
    choose(Store(tmp_path / "study"), 1, 1, "ours")
    pairs = tmp_path / "pairs.jsonl"
    assert call(["study", "report", str(tmp_path / "study"), "--preferences", str(pairs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| editor | direct | reasoning |"
    assert lines[-1] == f"2 pairs in {pairs}"
    assert {json.loads(each)["chosen_editor"] for each in pairs.read_text().splitlines()} == {
        "ours"
    }


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = write_inputs(tmp_path, num_items=2)
    ours = f"ours={inputs.editors['ours']}"
    base = f"base={inputs.editors['baseline']}"
    items = ["--items", str(inputs.items)]
    output = str(tmp_path / "study")
    create = ["study", "create", output, *items]
    cases = {
        "Missing option '--editor'": create,
        "ours: expected NAME=DIR": [*create, "--editor", "ours", "--editor", base],
        "two have one name: ours, ours": [*create, "--editor", ours, "--editor", ours],
        "expected two or more": [*create, "--editor", ours],
        "x: no picture is there": [*create, "--editor", ours, "--editor", "b=x"],
        "--items": ["study", "create", output, "--items", "x", "--editor", ours, "--editor", base],
        "must be a folder": [
            *["study", "create", "s3://bucket/x", *items],
            *["--editor", ours, "--editor", base],
        ],
        "no study is there": ["study", "serve", str(tmp_path / "nowhere")],
        "no study is there; ": ["study", "report", str(tmp_path / "nowhere")],
    }
    for message, line in cases.items():
        assert call(line) == 2, message
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "study").exists()

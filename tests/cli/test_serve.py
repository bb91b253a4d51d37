import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasonray.cli.main import call
from reasonray.core.place import place


@pytest.fixture
def editor(tmp_path: Path) -> str:
    """A folder that looks like an editor's from outside."""
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "ReasonEditPipeline"}))
    return str(tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_what_cannot_be_served_is_told_in_one_line(
    editor: str, taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    empty = tmp_path / "keys"
    empty.write_text("")
    cases = {
        "Which editor": [],
        "not an editor's folder, it has no model_index.json": [str(tmp_path / "nothing")],
        "it holds a StableDiffusionPipeline": [str(other)],
        f"--port {taken}: Address already in use": [editor, "--port", str(taken)],
        "without a key; make one": [editor, "--host", "0.0.0.0"],
        "expected NAME=EDITOR": ["--model", "here"],
        "Two models have one name": ["--model", f"a={editor}", "--model", f"a={editor}"],
        "models.a b": ["--model", f"a b={editor}"],
        "no key file": [editor, "--keys", str(tmp_path / "no-keys")],
        "has no key; make one": [editor, "--keys", str(empty)],
        "--host 203.0.113.7": [editor, "--host", "203.0.113.7", "--keys", "{keys}"],
    }
    assert call(["keys", str(tmp_path / "good"), "--name", "anna"]) == 0
    capsys.readouterr()
    for message, arguments in cases.items():
        arguments = [each.replace("{keys}", str(tmp_path / "good")) for each in arguments]
        assert call(["serve", *arguments]) == 2, message
        said = capsys.readouterr().err
        assert said.startswith("reasonray: ")
        assert message in said
        assert said.count("\n") == 1


def test_what_on_a_store_cannot_be_served_is_told_in_one_line(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place(bucket) / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    cases = {
        f"{bucket}/none (model none): not an editor's folder, it has no": f"{bucket}/none",
        f"{bucket} (model {bucket[-32:]}): not an editor's folder, it holds a Stable": bucket,
        "editor http://host/editor: expected a folder or a URI": "http://host/editor",
    }
    for message, editor in cases.items():
        assert call(["serve", editor]) == 2, message
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_a_key_is_printed_once_and_kept_as_a_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    assert call(["keys", str(file), "--name", "anna"]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("rr-")
    assert key not in file.read_text()
    assert call(["keys", str(file), "--name", "anna"]) == 2

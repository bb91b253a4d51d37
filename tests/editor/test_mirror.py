"""What a training writes as it goes on, in an output on a store."""

import threading
from pathlib import Path

import pytest

from reasonray.core import writing
from reasonray.core.errors import RunError
from reasonray.core.place import files, names, place
from reasonray.editor import mirror
from reasonray.editor.loggers import RUNS, TensorBoard
from reasonray.editor.metrics_log import METRICS, latest
from reasonray.editor.mirror import mirrored


def test_a_folder_is_written_to_itself(tmp_path: Path) -> None:
    with mirrored(tmp_path) as ours:
        ours.fetch()
        assert ours.folder == tmp_path
        (tmp_path / METRICS).write_text("{}")
        ours.send()
    assert names(tmp_path) == [METRICS]


def test_a_store_shows_what_has_changed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    send = writing.send

    def watched(folder: Path, target: object, changed: list[str]) -> None:
        sent.extend(changed)
        send(folder, target, changed)  # type: ignore[arg-type]

    monkeypatch.setattr(mirror, "send", watched)
    output = place(bucket) / "ours"
    with mirrored(output) as ours:
        assert ours.folder.name == "ours"
        (ours.folder / METRICS).write_text('{"loss": 1}\n')
        (ours.folder / "samples").mkdir()
        (ours.folder / "samples" / "step-1.png").write_bytes(b"png")
        (ours.folder / "latest").symlink_to("samples")
        ours.send(METRICS)
        assert [path.name for path in files(output)] == [METRICS]
        ours.send()
        with (ours.folder / METRICS).open("a") as file:
            file.write('{"loss": 2}\n{"held_out": 3}\n{"los')
        assert latest(output / METRICS) == {"loss": 1}
    assert sent == [METRICS, "samples/step-1.png", METRICS]
    assert latest(output / METRICS) == {"loss": 2}
    assert latest(output / "no such file") is None


def test_metrics_show_by_themselves(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_EVERY_S", 0.05)
    output, shown = place(bucket), threading.Event()
    send = writing.send

    def watched(*given: object) -> None:
        send(*given)  # type: ignore[arg-type]
        if (output / METRICS).exists():
            shown.set()

    monkeypatch.setattr(mirror, "send", watched)
    with mirrored(output) as ours:
        (ours.folder / METRICS).write_text('{"loss": 1}\n')
        assert shown.wait(timeout=30)


def test_a_training_that_goes_on_finds_its_figures(bucket: str) -> None:
    output = place(bucket)
    with mirrored(output) as first:
        first.fetch()
        board = TensorBoard(first.folder, {})
        board.scalar("editing/loss", 1.0, 7)
        board.close()
        (first.folder / METRICS).write_text('{"loss": 1}\n')
        (first.folder / RUNS).write_text("{}")
    with mirrored(output) as second:
        second.fetch()
        assert sorted(names(second.folder)) == sorted([METRICS, RUNS, "tensorboard"])
        assert TensorBoard(second.folder, {}).last_step("editing/loss") == 7


def test_what_was_written_before_an_error_is_there_and_the_error_too(bucket: str) -> None:
    output = place(bucket)

    def fail(folder: Path) -> None:
        (folder / "nan-batch.json").write_text("{}")
        raise RunError("not a number")

    with pytest.raises(RunError, match="not a number"), mirrored(output) as ours:
        fail(ours.folder)
    assert names(output) == ["nan-batch.json"]

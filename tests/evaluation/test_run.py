"""Evaluations on Ray Data: whole, added to, killed, with settings that have changed."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from finished_evaluation import CHUNK, measured
from finished_evaluation import figures as figures_of
from one_cluster import Cluster
from toy_editors import Inverting, benchmark, pair

from reasonray.cli.main import call
from reasonray.core.errors import RowError, RunError, UserError
from reasonray.core.recipe import load
from reasonray.evaluation import chunks
from reasonray.evaluation.editing import Editing
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.results import read_scores
from reasonray.evaluation.run import _Measuring, _refuse_replaced, evaluate
from reasonray.evaluation.subjects import opened

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

DRIVER = "import sys; from reasonray.cli.main import call; sys.exit(call(sys.argv[1:]))"
INVERTING = "ours=python:toy_editors:inverting"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A benchmark of twelve pairs, one of whose instructions nobody follows."""
    hard = pair(11, instructions=[{"kind": "direct", "text": "fail"}])
    benchmark(tmp_path / "benchmark", [*(pair(number) for number in range(11)), hard])
    return tmp_path


def line(place: Path, output: Path, *editors: str) -> list[str]:
    words = ["evaluate", "mini", "--benchmark", str(place / "benchmark"), "--output", str(output)]
    for editor in editors:
        words += ["--editor", editor]
    return [*words, "--set", "evaluation.chunk_rows=4"]


def figures(output: Path) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    results = json.loads((output / "results.json").read_text())
    editors: dict[str, dict[str, dict[str, dict[str, object]]]]
    editors = results["benchmarks"]["ours"]["editors"]
    return editors


def test_an_evaluation_is_added_to_and_made_once(
    ray_session: None,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = place / "out"
    assert call(line(place, output, "identity", INVERTING)) == 0
    first = figures(output)
    # What an editor cannot do is counted beside its mean, and its truth is the inverted picture.
    assert first["ours"]["direct"]["L1"]["mean"] == 0
    assert first["ours"]["direct"]["L1"]["num_failed"] == 1
    assert first["identity"]["direct"]["L1"]["num_failed"] == 0
    low, high = first["ours"]["reasoning"]["L1"]["lead"]  # type: ignore[misc]
    assert low <= high < 0  # type: ignore[has-type]
    text = (output / "table.md").read_text()
    assert "ours: 1 editor_failed." in text
    rows = pq.read_table(output / "rows/ours.parquet").to_pylist()
    assert [row["reason"] for row in rows].count("editor_failed") == 1
    assert len((output / "rows/ours.jsonl").read_text().splitlines()) == len(rows) == 46
    pictures = sorted(path.stat().st_mtime_ns for path in output.rglob("edits/*/*/*.parquet"))
    capsys.readouterr()
    assert call(line(place, output, "identity", INVERTING, "truth")) == 0
    assert "going on, 12 of 18 parts are done" in capsys.readouterr().err
    assert figures(output)["ours"] == first["ours"]
    assert figures(output)["truth"]["direct"]["CLIP-I"]["mean"] == pytest.approx(1)
    again = sorted(path.stat().st_mtime_ns for path in output.rglob("edits/*/*/*.parquet"))
    assert set(pictures) < set(again)
    # Relative paths mean the same to processes that are in another folder.
    monkeypatch.chdir(place)
    finished = f"finished=pictures:{output.relative_to(place)}/edits/ours/identity"
    words = [word.removeprefix(f"{place}/") for word in line(place, output, INVERTING, finished)]
    assert call([*words, "--retry-failed"]) == 0
    said = capsys.readouterr().err
    assert "1 rows that failed are done again" in said
    assert "ours: 3 of 3 edits, 1 of them without a picture or a figure" in said
    third = figures(output)
    for name, before in (("ours", "ours"), ("finished", "identity")):
        for measure in ("L1", "CLIP-I"):
            cells = third[name]["direct"][measure], first[before]["direct"][measure]
            assert [cell["mean"] for cell in cells] == [cells[1]["mean"]] * 2
            assert [cell["num_failed"] for cell in cells] == [cells[1]["num_failed"]] * 2
    with pytest.raises(UserError, match=r"with another seed; give another --output"):
        evaluate("mini", [INVERTING], [str(place / "benchmark")], output,
                 ["evaluation.chunk_rows=4", "seed=3"])  # fmt: skip


def test_a_killed_evaluation_ends_as_if_it_had_not_been(
    ray_session: None, cluster: Cluster, place: Path
) -> None:
    killed, environment = place / "killed", {**os.environ, "RAY_ADDRESS": cluster.address}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = line(place, killed, "ours=python:toy_editors:slow")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *command], env=environment, stderr=subprocess.DEVNULL
    )
    while len(list(killed.rglob("scores/*/*/*.parquet"))) < 2:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert not (killed / "results.json").exists()
    assert call(command) == 0
    assert call(line(place, place / "whole", INVERTING)) == 0
    assert figures(killed) == figures(place / "whole")
    tables = [(place / name / "table.md").read_text() for name in ("killed", "whole")]
    assert tables[0] == tables[1]


class Noticing(Inverting):
    notices = ("requests are taken without seed",)


def test_what_was_edited_by_an_earlier_process_brings_its_notices(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as processes of Ray without a GPU set it
    own, folder = opened(str(place / "benchmark")), place / "out"
    first, *_ = chunks.chunks_of(folder, own, Spec("b", "http://127.0.0.1:1/v1"), len(own.items))
    edit = Editing(Noticing(), "b", session=1, seed=0, timeout_s=20)
    edit(own.benchmark, own.items, Path(first.edits))
    row = _Measuring(load("mini"))(vars(first))
    assert row["notices"] == list(Noticing.notices)
    scores = read_scores(folder / "scores/ours/b", own.benchmark, own.items)
    assert scores.notices == list(Noticing.notices)


def test_a_retry_keeps_the_figures_of_rows_that_it_does_not_edit_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    own, folder = opened(str(place / "benchmark")), place / "out"
    edits = [item.before() if n else RowError("late", "") for n, item in enumerate(own.items)]
    measured(folder, own, "b", edits, [figures_of(number) for number in range(len(edits))])
    first, *_ = chunks.chunks_of(folder, own, Spec("b", "http://127.0.0.1:1/v1"), CHUNK)
    items, scores = own.items[:CHUNK], Path(first.scores)
    before = chunks.read_chunk(scores, items).to_pylist()
    assert chunks.forget_failures(first, items) == 1
    edit = Editing(Inverting(), "b", session=1, seed=0, timeout_s=20)
    edit(own.benchmark, items, Path(first.edits))
    _Measuring(load("mini"))(vars(first))
    after = chunks.read_chunk(scores, items).to_pylist()
    assert after[1:] == before[1:]  # made up, so that none of them was measured
    assert dict(after[0]["axes"])["L1"] == 0
    assert not list(scores.parent.glob("*.before"))


def test_a_benchmark_that_was_replaced_while_it_was_measured_is_refused(place: Path) -> None:
    own = opened(str(place / "benchmark"))
    before = own.content
    _refuse_replaced([own])
    benchmark(place / "benchmark", [pair(number, truth_caption="a wolf") for number in range(12)])
    with pytest.raises(RunError, match=r"benchmark ours=.*: it was changed while") as failure:
        _refuse_replaced([own])
    assert not failure.value.again
    assert own.content == before


@pytest.mark.nightly
def test_rows_that_hang_or_end_their_process_are_counted_and_cost_no_other(
    cluster: Cluster, tmp_path: Path
) -> None:
    texts = ["go", "hang", "go", "crash", "go"]
    pairs = [
        pair(number, instructions=[{"kind": "direct", "text": text}])
        for number, text in enumerate(texts)
    ]
    benchmark(tmp_path / "benchmark", pairs)
    command = [*line(tmp_path, tmp_path / "out", INVERTING), "--set", "evaluation.timeout_s=3"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["RAY_ADDRESS"] = cluster.address
    subprocess.run([sys.executable, "-c", DRIVER, *command], env=environment, check=True)
    rows = pq.read_table(tmp_path / "out/rows/ours.parquet").to_pylist()
    assert [row["reason"] for row in rows] == [None, "late", None, "crashed", None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--editor", "b=/nowhere"],
            "editor b: /nowhere: no pipeline of diffusers could be loaded",
        ),
        (["--editor", "ours=truth"], "editor ours: named twice"),
        (["--editor", "a b=truth"], "editor a b=truth: expected NAME=SPEC"),
    ],
)
def test_what_is_no_editor_is_one_line(
    ray_session: None,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert call([*line(place, place / "out", INVERTING), *words]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_what_is_no_benchmark_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "mini", "--editor", "truth", "--output", str(place / "out")]
    assert call([*words, "--benchmark", str(place / "nowhere")]) == 2
    assert "no folder of reasonray benchmark" in capsys.readouterr().err
    assert call([*words, "--benchmark", f"risebrench={place}"]) == 2
    assert "did you mean risebench?" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").write_text("mine")
    assert call(line(place, place / "file", "truth")) == 2
    assert f"output {place / 'file'}: cannot be used" in capsys.readouterr().err

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(chunks, "write_file", full)
    assert call(line(place, place / "out", "truth")) == 1
    assert "no space left; free some, finished rows are kept" in capsys.readouterr().err

"""What an evaluation leaves of rows that went wrong: by item, as counts, and in its table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished_evaluation import finished, measured, subject
from toy_editors import SIDE, pair

from reasonray.core.errors import RowError
from reasonray.core.images import encode_png
from reasonray.core.place import make_folder
from reasonray.core.sections import ModelConfig
from reasonray.core.writing import write_table
from reasonray.evaluation import editing
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.items import Item
from reasonray.evaluation.metrics import Metrics
from reasonray.evaluation.results import PUBLISHED
from reasonray.evaluation.yardsticks import ByTruth, measure

ZOO = "package:reasonray/mini/zoo"
MODELS = (ModelConfig(name=f"{ZOO}/clip"), ModelConfig(name=f"{ZOO}/dino"))
EDITED = PIL.Image.new("RGB", (SIDE, SIDE), (255, 255, 215))
SMALL = PIL.Image.new("RGB", (SIDE // 2, SIDE // 2), (255, 255, 215))

CASES: dict[str, tuple[dict[str, Any], RowError | None]] = {
    "good": ({}, None),
    "fails": ({}, RowError("editor_failed", "ValueError: it is too hard")),
    "hangs": ({}, RowError("late", "no picture within 600 s")),
    "gone": ({}, RowError("no_picture", "item gone#direct: no picture gone#direct.*")),
    "truth": ({"truth": {"bytes": b"no picture", "path": None}}, None),
}
"""Of each pair what is wrong with it, and why an editor has no picture of it."""


def edits(items: Sequence[Item], pictures: Sequence[PIL.Image.Image | RowError]) -> pa.Table:
    rows = [
        {"id": item.id, "reason": each.reason, "detail": each.detail}
        if isinstance(each, RowError)
        else {"id": item.id, "picture": encode_png(each), "seconds": 1.0}
        for item, each in zip(items, pictures, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=editing.SCHEMA)


@pytest.mark.zoo
def test_what_went_wrong_is_told_by_row_and_counted_beside_the_means(tmp_path: Path) -> None:
    told = [{"kind": "direct", "text": "go"}]
    pairs = [pair(0, id=name, instructions=told, **changes) for name, (changes, _) in CASES.items()]
    own = subject(tmp_path / "benchmark", pairs)
    pictures: dict[str, list[PIL.Image.Image | RowError]] = {
        "small": [SMALL] * len(CASES),
        "mine": [failure or EDITED for _, failure in CASES.values()],
    }
    yardstick, output = ByTruth(Metrics(*MODELS)), tmp_path / "out"
    for name, made in pictures.items():
        table = edits(own.items, made)
        for kind, part in (("edits", table), ("scores", measure(yardstick, own.items, table))):
            make_folder(output / kind / "ours" / name)
            write_table(output / kind / "ours" / name / "000000.parquet", part)
    finished(output, own, [Spec(name, f"python:{name}") for name in pictures])

    lines = [json.loads(line) for line in (output / "rows/ours.jsonl").read_text().splitlines()]
    assert lines == pq.read_table(output / "rows/ours.parquet").to_pylist()
    rows = {(row["editor"], row["id"].partition("#")[0]): row for row in lines}
    for name, (_, failure) in CASES.items():
        row = rows["mine", name]
        if failure:
            assert (row["reason"], row["detail"]) == (failure.reason, failure.detail)
        assert row["L1"] == (0 if name == "good" else None)
    assert rows["mine", "good"]["reason"] is None
    assert rows["mine", "truth"]["reason"] == "unreadable_image"
    assert "/4/truth" in rows["mine", "truth"]["detail"]  # which picture it is: the fifth pair's
    resized = "of 16 x 16, the picture before of 32 x 32"
    assert [rows["small", name]["note"] for name in CASES] == [resized] * 5

    results = json.loads((output / "results.json").read_text())["benchmarks"]["ours"]
    assert results["failures"] == {
        "small": {"unreadable_image": 1},
        "mine": {"editor_failed": 1, "late": 1, "no_picture": 1, "unreadable_image": 1},
    }
    cell = results["editors"]["mine"]["direct"]["L1"]
    # No editor is to blame for a truth that is no picture.
    counts = [cell[f"num_{name}"] for name in ("items", "failed", "without")]
    assert (cell["mean"], counts) == (0, [5, 3, 4])
    assert cell["lead"] == [0, 0]  # on the one item that both have

    text = (output / "table.md").read_text()
    [line] = [each for each in text.splitlines() if each.startswith("| mine |")]
    assert line.endswith("| 5, 3 |")
    for words in (
        "mine: 1 editor_failed.",
        "mine: 1 late.",
        "mine: 1 no_picture.",
        "mine: 1 unreadable_image.",
        "small: 5 pictures of another size than their input's.",
    ):
        assert words in text


def test_an_editor_that_rewrote_instructions_is_reported_apart(tmp_path: Path) -> None:
    told = [{"kind": kind, "text": "go"} for kind in ("direct", "reasoning")]
    own = subject(tmp_path / "benchmark", [pair(0, instructions=told)])
    output = tmp_path / "out"
    for name, l1 in (("rewriter", 0.1), ("plain", 0.2), ("other", 0.3)):
        revised = ["clearly: go" if name == "rewriter" else None, None]
        figures = [{"L1": l1}] * 2
        measured(output, own, name, [EDITED] * 2, figures, revised=(pa.string(), revised))
    finished(output, own, [Spec(name, f"python:{name}") for name in ("rewriter", "plain", "other")])
    text = (output / "table.md").read_text()
    order = [line.split(" |")[0] for line in text.splitlines() if line.startswith("| ")]
    assert [each for each in order if each != "| its lead, 95 %"][1:] == [
        "| plain",
        "| other",
        *(f"| {name} (published)" for name in PUBLISHED),
        "| rewriter, which rewrote",
    ]
    assert "| plain | **0.2000** |" in text  # the best of those that got the same instruction
    assert "| rewriter, which rewrote | 0.1000 |" in text
    assert "rewriter: it rewrote 1 of 2 instructions before it edited." in text
    formula = (output / "table.tex").read_text()
    assert formula.index("other &") < formula.index("rewriter, which rewrote &")
    assert r"plain & \textbf{0.2000}" in formula
    results = json.loads((output / "results.json").read_text())["benchmarks"]["ours"]
    assert results["revised"] == {"rewriter": 1, "plain": 0, "other": 0}
    lines = [json.loads(line) for line in (output / "rows/ours.jsonl").read_text().splitlines()]
    assert [row["revised"] for row in lines if row["editor"] == "rewriter"] == ["clearly: go", None]

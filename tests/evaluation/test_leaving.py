"""What an evaluation leaves of rows that went wrong: by item, as counts, and in its table."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_editors import SIDE, Inverting, benchmark, pair

from reasonray.core.place import make_folder
from reasonray.core.sections import ModelConfig
from reasonray.core.writing import write_table
from reasonray.evaluation import editing
from reasonray.evaluation.editing import Edited, edit_chunk
from reasonray.evaluation.editors import Edits, Spec
from reasonray.evaluation.leaving import write_results
from reasonray.evaluation.measuring import ByTruth, measure
from reasonray.evaluation.metrics import Metrics
from reasonray.evaluation.run import Subject, opened

ZOO = "package:reasonray/mini/zoo"
MODELS = (ModelConfig(name=f"{ZOO}/clip"), ModelConfig(name=f"{ZOO}/dino"))
NO_PICTURE = {"bytes": b"no picture", "path": None}
LATE = "no picture within 600 s"

CASES: dict[str, dict[str, Any]] = {
    "good": {},
    "fails": {"text": "fail"},
    "hangs": {"text": "hang"},
    "input": {"input_image": NO_PICTURE},
    "truth": {"truth": NO_PICTURE},
}


class Small:
    """Makes pictures of half the size, and never fails."""

    def edit(self, images: Any, instructions: Any, seeds: Any) -> list[PIL.Image.Image]:
        return [PIL.Image.new("RGB", (SIDE // 2, SIDE // 2)) for _ in images]


def made(subject: Subject, editor: Edits, folder: Path) -> pa.Table:
    """Edits; of what would hang as the next process finds it."""
    rows = []
    for item in subject.items:
        if "hang" in item.instruction and isinstance(editor, Inverting):
            row = Edited(item.id, None, 600, "late", LATE).row()
            rows.append(pa.Table.from_pylist([row], schema=editing.SCHEMA))
        else:
            path = folder / f"{len(rows)}.parquet"
            edit_chunk(editor, [item], path, session=1, seed=0, timeout_s=60)
            rows.append(pq.read_table(path))
    return pa.concat_tables(rows)


@pytest.mark.zoo
def test_what_went_wrong_is_told_by_row_and_counted_beside_the_means(tmp_path: Path) -> None:
    pairs = [
        pair(number, id=name, instructions=[{"kind": "direct", "text": case.get("text", "go")}])
        | {key: value for key, value in case.items() if key != "text"}
        for number, (name, case) in enumerate(CASES.items())
    ]
    subject = opened(str(benchmark(tmp_path / "benchmark", pairs)))
    yardstick, output = ByTruth(Metrics(*MODELS)), tmp_path / "out"
    for name, editor in (("small", Small()), ("mine", Inverting())):
        (tmp_path / name).mkdir()
        edits = made(subject, editor, tmp_path / name)
        for kind, table in (("edits", edits), ("scores", measure(yardstick, subject.items, edits))):
            make_folder(output / kind / "ours" / name)
            write_table(output / kind / "ours" / name / "000000.parquet", table)
    specs = [Spec(name, f"python:{name}") for name in ("small", "mine")]
    write_results(output, {"ours": {}}, specs, [subject])

    lines = [json.loads(line) for line in (output / "rows/ours.jsonl").read_text().splitlines()]
    assert lines == pq.read_table(output / "rows/ours.parquet").to_pylist()
    rows = {(row["editor"], row["id"].partition("#")[0]): row for row in lines}
    assert {name: rows["mine", name]["reason"] for name in CASES} == {
        "good": None,
        "fails": "editor_failed",
        "hangs": "late",
        "input": "unreadable_image",
        "truth": "unreadable_image",
    }
    assert [rows["mine", name]["L1"] for name in CASES] == [0, None, None, None, None]
    assert rows["mine", "fails"]["detail"] == "ValueError: it is too hard"
    assert rows["mine", "hangs"]["detail"] == LATE
    # Which picture it is: the pair's second, and its third.
    assert "/3/input_image" in rows["mine", "input"]["detail"]
    assert "/4/truth" in rows["mine", "truth"]["detail"]
    resized = "of 16 x 16, the picture before of 32 x 32"
    assert [rows["small", name]["note"] for name in CASES] == [resized, resized, resized, None,
                                                              resized]  # fmt: skip

    results = json.loads((output / "results.json").read_text())["benchmarks"]["ours"]
    assert results["failures"] == {
        "small": {"unreadable_image": 2},
        "mine": {"editor_failed": 1, "late": 1, "unreadable_image": 2},
    }
    cell = results["editors"]["mine"]["direct"]["L1"]
    # The editor is not to blame for a truth that is no picture.
    assert (cell["mean"], cell["num_items"], cell["num_failed"]) == (0, 5, 3)
    assert cell["num_without"] == 4
    low, high = cell["lead"]
    assert low == high == -rows["small", "good"]["L1"]  # on the one item that both have

    table = (output / "table.md").read_text()
    [line] = [each for each in table.splitlines() if each.startswith("| mine |")]
    assert line.endswith("| 5, 3 |")
    for words in (
        "mine: 1 editor_failed.",
        "mine: 1 late.",
        "mine: 2 unreadable_image.",
        "small: 4 pictures of another size than their input's.",
    ):
        assert words in table

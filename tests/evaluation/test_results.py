"""Figures of editors beside each other: means, failures, intervals, and the tables of them."""

import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from finished_evaluation import figures, measured, subject
from toy_editors import pair

from reasonray.evaluation import tables
from reasonray.evaluation.items import Figure, Item, Picture, Scored
from reasonray.evaluation.metrics import difference_interval, mean_interval
from reasonray.evaluation.results import (
    PUBLISHED,
    EditorScores,
    best,
    cells,
    gain_over,
    read_scores,
)

NAN = math.nan


def scores(
    l1: list[float],
    clip: list[float],
    groups: list[str] | None = None,
    num_of_a_picture: int = 1,
) -> EditorScores:
    """Of items of which so many, one after the other, begin with the same picture."""
    values = {"L1": l1, "CLIP-I": clip}
    reasons = ["late" if math.isnan(value) else None for value in l1]
    items = [
        Item(str(number), group, "en", (Picture(f"{number // num_of_a_picture}.png"),), "go")
        for number, group in enumerate(groups or ["direct"] * len(l1))
    ]
    scored = [
        Scored(item, None if math.isnan(value) else {"L1": value})
        for item, value in zip(items, l1, strict=True)
    ]
    count = len(l1)
    nothing: list[str | None] = [None] * count
    return EditorScores(scored, values, reasons, nothing, nothing, [], [{}] * count)


def test_a_failed_row_is_counted_and_no_part_of_a_mean() -> None:
    table = cells({"a": scores([0.1, NAN, 0.3], [1.0, NAN, 0.5])})
    cell = table["a"]["direct"]["L1"]
    assert cell.mean == pytest.approx(0.2)
    assert cell.interval == pytest.approx((0.1, 0.3))
    assert (cell.num_items, cell.num_failed, cell.lead) == (3, 1, None)


def test_a_lead_is_over_the_first_editor_on_the_rows_that_both_have() -> None:
    first = scores([0.5, 0.5, NAN, 0.5], [0.1] * 4)
    other = scores([0.2, 0.2, 9.0, NAN], [0.4] * 4)
    table = cells({"first": first, "other": other})
    assert table["first"]["direct"]["L1"].lead is None
    assert table["other"]["direct"]["L1"].lead == pytest.approx((-0.3, -0.3))
    assert table["other"]["direct"]["CLIP-I"].lead == pytest.approx((0.3, 0.3))


def test_items_of_one_picture_are_drawn_together() -> None:
    ours = [0.1, 0.1, NAN, 0.9, 0.4, 0.4, 0.6, 0.6, 0.2, 0.2]
    theirs = [0.3, 0.3, 0.2, 0.2, NAN, 0.9, 0.1, 0.1, 0.8, 0.8]
    others, own = (scores(each, each, num_of_a_picture=2) for each in (theirs, ours))
    cell = cells({"first": others, "other": own})["other"]["direct"]["L1"]

    held = [value for value in ours if not math.isnan(value)]
    interval = mean_interval(held, clusters=[0, 0, 1, 2, 2, 3, 3, 4, 4])
    assert cell.interval == interval
    assert np.ptp(interval) > np.ptp(mean_interval(held))

    both = [row for row in zip(ours, theirs, strict=True) if not any(map(math.isnan, row))]
    pairs = [list(column) for column in zip(*both, strict=True)]
    lead = difference_interval(*pairs, clusters=[0, 0, 1, 2, 3, 3, 4, 4])
    assert cell.lead == lead
    assert np.ptp(lead) > np.ptp(difference_interval(*pairs))
    gain = gain_over(np.array(ours), np.array(theirs), own.sources("direct"))
    assert gain is not None
    assert gain[0] == pytest.approx(np.mean([a - b for a, b in both]))
    assert gain[1] == lead


@pytest.mark.parametrize("value", [math.inf, -math.inf, NAN])
def test_a_figure_that_is_no_number_is_none(tmp_path: Path, value: float) -> None:
    own = subject(tmp_path / "b", [pair(0)])
    edits = [PIL.Image.new("RGB", (4, 4))] * 2
    measured(tmp_path / "out", own, "mine", edits, [{"L1": value}, {"L1": 0.25}])
    read = read_scores(tmp_path / "out/scores/ours/mine", own.benchmark, own.items)
    assert math.isnan(read.values["L1"][0])
    [direct, reasoning] = cells({"mine": read})["mine"].values()
    assert (direct["L1"].mean, direct["L1"].num_without) == (None, 1)
    assert reasoning["L1"].mean == 0.25


def test_files_beside_the_chunks_are_not_read(tmp_path: Path) -> None:
    own, folder = subject(tmp_path / "b", [pair(n) for n in range(3)]), tmp_path / "out"
    edits = [PIL.Image.new("RGB", (4, 4))] * 6
    measured(folder, own, "mine", edits, [figures(n) for n in range(6)])
    scores = folder / "scores/ours/mine"
    for name in ("notes.parquet", "000000-copy.parquet", ".000000.parquet.4711"):
        (scores / name).write_bytes((scores / "000004.parquet").read_bytes())
    read = read_scores(scores, own.benchmark, own.items)
    assert read.values["L1"] == [figures(n)["L1"] for n in range(6)]


def test_an_editor_that_fails_on_everything_has_no_figures() -> None:
    table = cells({"a": scores([0.1], [1.0]), "b": scores([NAN], [NAN])})
    cell = table["b"]["direct"]["L1"]
    assert (cell.mean, cell.num_failed, cell.lead) == (None, 1, None)
    assert best(table, "direct", "L1") == {"a"}


def test_a_measure_that_one_editor_lacks_is_in_its_row_without_a_figure() -> None:
    judged, failed = scores([0.1], [1.0]), scores([NAN], [NAN])
    judged.values["following"] = [4.0]
    for both in ({"a": judged, "b": failed}, {"b": failed, "a": judged}):
        table = cells(both)
        assert table["a"]["direct"]["following"].mean == 4
        assert table["b"]["direct"]["following"].mean is None
        assert "| – | – | – | 1, 1 |" in tables.markdown(table, published=None)


def test_lower_is_better_for_distances_alone_and_equals_share_the_first_place() -> None:
    a, b, c = scores([0.1], [0.5]), scores([0.2], [0.70001]), scores([0.1], [0.7])
    table = cells({"a": a, "b": b, "c": c})
    assert best(table, "direct", "L1") == {"a", "c"}
    assert best(table, "direct", "CLIP-I") == {"b", "c"}


def test_tables_have_table_3_s_form() -> None:
    groups = ["reasoning", "direct", "relational"]
    table = cells(
        {"one": scores([0.3, 0.1, 0.2], [0.5, 0.9, 0.7], groups),
         "two_2": scores([0.2, 0.2, NAN], [0.6, 0.8, NAN], groups)}
    )  # fmt: skip
    text = tables.markdown(table, published=PUBLISHED)
    head, _, one, two, lead, *rest = text.splitlines()
    names = "direct: L1 | direct: CLIP-I | reasoning: L1 | reasoning: CLIP-I"
    assert head == f"| editor | {names} | edits, failed |"
    assert one == "| one | **0.1000** | **0.9000** | 0.3000 | 0.5000 | 2, 0 |"
    assert two == "| two_2 | 0.2000 | 0.8000 | **0.2000** | **0.6000** | 2, 0 |"
    assert lead.startswith("| its lead, 95 % | +0.1000 to +0.1000 | ")
    # Each below its own head, whatever else is measured.
    assert "| ReasonPix2Pix (published) | 0.0646 | 0.9246 | 0.1347 | 0.7824 | |" in rest
    assert "| two_2 | – | – | 1, 1 |" in rest
    formula = tables.latex(table)
    assert r"\multicolumn{2}{c}{direct} & \multicolumn{2}{c}{reasoning}" in formula
    assert r"two\_2 & 0.2000 & 0.8000 & \textbf{0.2000} & \textbf{0.6000} \\" in formula


def test_what_a_benchmark_calls_its_groups_is_no_markup() -> None:
    figure = Figure("score", "logical_reasoning: a | b\n*c*", 0.5, 1, 0, 0)
    text = tables.own({"mine": [figure]})
    assert text.splitlines()[2] == r"| logical_reasoning: a \| b \*c\* | 0.5 |"
    table = cells({"mine": scores([0.1], [0.5], ["50 % ^ | x"])})
    assert r"{50 \% \textasciicircum{} | x}" in tables.latex(table)
    assert r"| editor | 50 % ^ \| x: L1 |" in tables.markdown(table, published=None)

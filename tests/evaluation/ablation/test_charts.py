"""The charts of Figure 15, as pictures and as SVG, of figures by hand."""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import PIL.Image
import pytest

from reasonray.evaluation.ablation.charts import FORMATS, chart
from reasonray.evaluation.ablation.variants import DATA, MODEL
from reasonray.evaluation.results import Cell

LABELS = {name: f"variant {name}" for name in DATA}

Means = Mapping[str, float | None]


def cell(mean: float | None, width: float = 0.02) -> Cell:
    interval = None if mean is None else (mean - width, mean + width)
    return Cell(mean, interval, 10, 0, 0, None)


def table(**groups: Means) -> dict[str, dict[str, dict[str, Cell]]]:
    names = dict.fromkeys((*DATA, *MODEL))
    return {
        name: {group: {"CLIP-I": cell(means.get(name))} for group, means in groups.items()}
        for name in names
    }


RISING = {name: 0.6 + 0.05 * number for number, name in enumerate(DATA)}


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(each.itertext()).strip() for each in root.iter() if each.tag.endswith("}text")]


def num_marks(svg: bytes) -> int:
    """Marks of means, which stand in the SVG by their shape's name; so do those of the legend."""
    lines = re.findall(r'<g id="line2d_\d+">.*?</g>\s*</g>', svg.decode(), re.DOTALL)
    return sum(len(re.findall("<use ", each)) for each in lines)


def test_a_chart_is_a_picture_and_a_drawing_with_its_words() -> None:
    files = chart(table(direct=RISING, reasoning=RISING), "CLIP-I", LABELS, "Data")
    assert tuple(files) == FORMATS
    picture = PIL.Image.open(io.BytesIO(files["png"]))
    assert picture.width > picture.height > 500
    assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 10
    shown = texts(files["svg"])
    for text in (*LABELS.values(), "direct", "reasoning", "Data", "CLIP-I, mean and 95 % interval"):
        assert text in shown


def test_the_same_figures_make_the_same_files() -> None:
    once, again = (chart(table(direct=RISING), "CLIP-I", LABELS, "Data") for _ in range(2))
    assert once == again
    other = chart(table(direct={**RISING, "I": 0.2}), "CLIP-I", LABELS, "Data")
    assert all(once[form] != other[form] for form in FORMATS)


def test_what_has_no_figure_has_no_mark() -> None:
    whole = chart(table(direct=RISING), "CLIP-I", LABELS, "Data")
    partly = chart(table(direct={**RISING, "I": None}), "CLIP-I", LABELS, "Data")
    assert num_marks(whole["svg"]) > num_marks(partly["svg"])
    without = chart(table(direct=RISING, reasoning={}), "CLIP-I", LABELS, "Data")
    assert "reasoning" not in texts(without["svg"])
    nothing = chart(table(direct={}), "CLIP-I", LABELS, "Data")
    assert "direct" not in texts(nothing["svg"])


def test_both_charts_of_a_table_have_one_axis() -> None:
    figures = table(direct={**RISING, "mllm": 0.1})
    ticks = []
    for order in (DATA, MODEL):
        drawn = chart(figures, "CLIP-I", {name: f"variant {name}" for name in order}, "A title")
        ticks.append([text for text in texts(drawn["svg"]) if re.fullmatch(r"[\d.]+", text)])
    assert ticks[0] == ticks[1] != []
    assert float(ticks[0][0]) <= 0.2


@pytest.mark.parametrize("width", [0.0, 0.3])
def test_intervals_of_any_width_are_drawn(width: float) -> None:
    figures = {name: {"": {"CLIP-I": cell(0.5, width)}} for name in DATA}
    files = chart(figures, "CLIP-I", LABELS, "Data")
    assert "all" in texts(files["svg"])

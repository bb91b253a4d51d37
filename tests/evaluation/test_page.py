"""The page of an evaluation, without a browser: what stands on it, escaped, and of what size."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished_evaluation import SPECS, everyday, figures, finished, measured, subject
from pages import Page
from public_benchmarks import MAKERS, picture
from toy_editors import pair

from reasonray.core.errors import RowError
from reasonray.core.images import encode_png
from reasonray.core.place import place
from reasonray.core.recipe import load
from reasonray.evaluation.benchmarks import BENCHMARKS
from reasonray.evaluation.chunks import check_settings
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.items import INPUT_METRICS, TRUTH_METRICS
from reasonray.evaluation.page import gallery as galleries
from reasonray.evaluation.results import PUBLISHED
from reasonray.evaluation.subjects import opened

MB = 1_000_000


def cards(page: Page) -> list[str]:
    return re.findall(r'<article class="card".*?</article>', page.text, re.DOTALL)


def test_the_page_has_tables_charts_figures_by_kind_and_pictures(tmp_path: Path) -> None:
    page = Page(finished(*everyday(tmp_path)))
    assert len(cards(page)) == 12
    assert page.text.count('<svg class="chart"') == 6  # five metrics, and what was judged
    assert "All 12 items." in page.text
    for name in ("Kind of reasoning: 2", "Part: 1", "What it becomes: 1"):
        assert name in page.text
    [row] = re.findall(r'<tr class="published"><th scope="row">EDICT.*?</tr>', page.text, re.DOTALL)
    assert "published</span>" in row
    # Below their own heads: what the paper has not is empty.
    expected = [f"{value:.4f}" for value in PUBLISHED["EDICT"][0]] + [""] * 3
    assert re.findall(r">([\d.]*)</td>", row)[:8] == expected
    assert page.text.count("its lead, 95 %") == 2
    assert "It barks, as number 0 should." in page.text
    assert len(re.findall(r"<dt>following</dt><dd>\d\.00</dd>", page.text)) == 11


def test_the_best_is_bold_and_failures_are_counted(tmp_path: Path) -> None:
    output, own = everyday(tmp_path)
    page = Page(finished(output, own))
    cells = json.loads((output / "results.json").read_text())["benchmarks"]["ours"]["editors"]
    best = min(cells, key=lambda editor: cells[editor]["direct"]["L1"]["mean"])
    for editor in cells:
        line = re.findall(rf'<tr><th scope="row">{editor}</th>.*?</tr>', page.text, re.DOTALL)[0]
        mean = f"{cells[editor]['direct']['L1']['mean']:.4f}"
        assert (f"<b>{mean}</b>" in line) == (editor == best)
        assert mean in line
    assert (
        'mine: <span class="lost">1 late</span>, pictures of another size than their input\'s: 1'
        in page.text
    )


def test_a_failure_is_shown_with_its_reason_in_place_of_the_picture(tmp_path: Path) -> None:
    page = Page(finished(*everyday(tmp_path)))
    [card] = [each for each in cards(page) if " data-failed" in each]
    assert '<span class="nothing">late</span>' in card
    assert "mine: late: no picture within 600 s" in card
    [resized] = [each for each in cards(page) if "of 48 x 20" in each]
    assert "aspect-ratio:48/20" in resized


def test_files_beside_the_chunks_are_not_shown(tmp_path: Path) -> None:
    output, own = everyday(tmp_path)
    before = finished(output, own).read_bytes()
    edits = output / "edits/ours/mine"
    for name in ("notes.parquet", "000000-copy.parquet", ".000000.parquet.4711"):
        (edits / name).write_bytes((edits / "000008.parquet").read_bytes())
    assert finished(output, own).read_bytes() == before


def test_the_page_loads_nothing_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    page = Page(finished(*everyday(tmp_path)))
    assert page.links
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "url(" not in page.text
    assert page.tags.count("script") == 1
    [script] = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.text
    assert "default-src 'none'" in page.text


ATTACK = "</script><script>alert(1)</script>\"'><b>&amp;{{ 7 * 7 }}"


def test_every_text_is_escaped(tmp_path: Path) -> None:
    hostile = pair(
        0,
        id=f"III/toy/{ATTACK}",
        selected_category=ATTACK,
        target_category=ATTACK,
        part=ATTACK,
        reasoning_type=ATTACK,
        input_caption=ATTACK,
        truth_caption=ATTACK,
        instructions=[{"kind": ATTACK, "text": ATTACK}],
    )
    own = subject(tmp_path / "benchmark", [hostile])
    output = tmp_path / "out"
    [before] = [item.pictures[0].open() for item in own.items]
    measured(output, own, "input", [before], [figures(0)])
    measured(output, own, "base", [RowError(ATTACK, ATTACK)], [{}])
    measured(
        output,
        own,
        "mine",
        [before],
        [{**figures(1), ATTACK: 3.0}],
        [{ATTACK: ATTACK}],
        thoughts=(pa.list_(pa.string()), [[ATTACK, ATTACK]]),
    )
    specs = [*SPECS[:2], Spec("mine", ATTACK)]
    page = Page(finished(output, own, specs))
    assert page.tags.count("script") == 1
    assert "<b>&amp;{{" not in page.text
    assert html.escape(ATTACK, quote=False).replace('"', "&#34;").replace("'", "&#39;") in page.text


def test_an_editor_that_fails_on_everything_has_no_figures(tmp_path: Path) -> None:
    own = subject(tmp_path / "benchmark", [pair(number) for number in range(3)])
    failed = [RowError("crashed", "the process ended in this edit, twice")] * len(own.items)
    output = tmp_path / "out"
    for spec in SPECS[:1]:
        before = [item.pictures[0].open() for item in own.items]
        measured(output, own, spec.name, before, [figures(n) for n in range(len(before))])
    for spec in SPECS[1:]:
        measured(output, own, spec.name, failed, [{}] * len(failed))
    page = Page(finished(output, own))
    assert len(cards(page)) == len(re.findall(r"<article [^>]* data-failed>", page.text)) == 6
    assert "no figure</text>" in page.text
    # Not even the first one: nothing to have a lead over, and no chart with a range.
    output = tmp_path / "none"
    for spec in SPECS:
        measured(output, own, spec.name, failed, [{}] * len(failed))
    assert "No figure." in Page(finished(output, own)).text


def test_one_editor_alone_has_a_page(tmp_path: Path) -> None:
    output, own = everyday(tmp_path)
    page = Page(finished(output, own, SPECS[2:]))
    assert "Disagreement" not in page.text
    assert "its lead" not in page.text
    assert len(cards(page)) == 12


def test_pictures_that_are_not_there_any_more_are_no_end_of_the_page(tmp_path: Path) -> None:
    output, own = everyday(tmp_path)
    for path in (output / "edits/ours/mine").iterdir():
        path.unlink()
    page = Page(finished(output, own))
    assert page.text.count("picture not there any more") == 2 * 11


def test_a_broken_truth_is_told_on_its_card(tmp_path: Path) -> None:
    broken = pair(1, truth={"bytes": b"no picture", "path": None})
    own = subject(tmp_path / "benchmark", [broken])
    before = [item.pictures[0].open() for item in own.items]
    measured(tmp_path / "out", own, "mine", before, [figures(n) for n in range(2)])
    page = Page(finished(tmp_path / "out", own, SPECS[2:]))
    assert page.text.count('<p class="why">truth: unreadable_image') == 2


def test_sort_keys_are_the_figures_of_the_orders(tmp_path: Path) -> None:
    output, own = everyday(tmp_path)
    page = Page(finished(output, own))
    [order] = re.findall(r'<select [^>]*name="order">(.*?)</select>', page.text, re.DOTALL)
    labels = {
        html.unescape(label): int(number)
        for number, label in re.findall(r'<option value="(\d+)">(.*?)</option>', order)
    }
    rows = pq.read_table(output / "rows/ours.parquet").to_pylist()
    values = {(row["editor"], row["id"]): row for row in rows}
    for card in cards(page):
        keys = json.loads(re.findall(r'data-keys="(.*?)"', card)[0])
        [item] = re.findall(r"<code>(.*?)</code>", card)
        for editor in ("input", "base", "mine"):
            expected = values[editor, item]["DINO"]
            assert keys[labels[f"{editor}: DINO"]] == (expected and pytest.approx(expected, 1e-4))
        pair_of = [values[editor, item]["DINO"] for editor in ("base", "mine")]
        spread = None if None in pair_of else abs(pair_of[0] - pair_of[1])
        # The input makes nothing of its own: it does not count.
        assert keys[labels["disagreement: DINO"]] == (spread and pytest.approx(spread, 1e-4))
        number = int(values["mine", item]["id"].split("/")[2])
        position = 2 * number + item.endswith("#reasoning")
        assert keys[labels["place in the benchmark"]] == position
        judged = 1.0 + position % 5
        assert keys[labels["mine: following"]] == (judged if spread is not None else None)
    first = [json.loads(re.findall(r'data-keys="(.*?)"', card)[0])[0] for card in cards(page)]
    assert first[-1] is None
    assert first[:-1] == sorted(first[:-1], reverse=True)


def test_a_large_benchmark_is_shown_in_part_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(galleries, "MAX_ITEMS", 8)
    output, own = everyday(tmp_path, 9)
    page = Page(finished(output, own))
    assert "8 of 18 items. They are chosen group by group" in page.text
    assert len(cards(page)) == 8
    assert len(re.findall(r"<article [^>]* data-failed>", page.text)) == 1
    assert "direct (4 of 9)" in page.text
    assert cards(page) == cards(Page(finished(output, own)))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_public_benchmark_has_its_own_table_on_the_page(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path / "benchmark")
    own = opened(f"{name}={tmp_path / 'benchmark'}")
    calls = [own.benchmark.calls(item, picture("green")) for item in own.items]
    tops = [
        {axis: float(high) for call in each for axis, (_, high) in call.axes.items()}
        for each in calls
    ]
    names = INPUT_METRICS if own.benchmark.yardstick == "input" else TRUTH_METRICS
    axes = [each or dict.fromkeys(names, 0.5) for each in tops]
    count = len(own.items)
    measured(tmp_path / "out", own, "base", [RowError("late", "too late")] * count, axes)
    measured(tmp_path / "out", own, "mine", [picture("green")] * count, axes)
    page = Page(finished(tmp_path / "out", own, SPECS[1:]))
    assert f'aria-label="Table of {name}"' in page.text
    assert re.search(r'<small class="lost">[1-9]\d* missing</small>', page.text)
    assert len(cards(page)) == count
    assert page.text.count('<svg class="chart"') > 0
    rows = pq.read_table(tmp_path / f"out/rows/{name}.parquet").to_pylist()
    assert [row["instruction"] for row in rows[:count]] == [i.full_instruction for i in own.items]


@pytest.mark.slow
def test_a_page_stays_small_whatever_is_in_the_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), np.uint8)
    edit = PIL.Image.fromarray(noise)
    colours = {"bytes": encode_png(edit)["bytes"], "path": None}
    text = "Do what nobody has asked for. " * 300
    told = [{"kind": "direct", "text": text}, {"kind": "reasoning", "text": text}]
    own = subject(
        tmp_path / "benchmark",
        [pair(n, input_image=colours, truth=colours, instructions=told) for n in range(29)],
    )
    specs = [Spec(f"editor-{number}", f"/{number}") for number in range(5)]
    output, count = tmp_path / "out", len(own.items)
    measured(output, own, "editor-0", [edit] * count, [figures(n) for n in range(count)])
    for spec in specs[1:]:
        for kind in ("edits", "scores"):
            folder = output / kind / own.name
            shutil.copytree(folder / "editor-0", folder / spec.name)
    page = finished(output, own, specs)
    assert len(cards(Page(page))) == galleries.MAX_PICTURES // 7
    assert page.stat().st_size < 5 * MB


def test_a_page_is_written_to_a_store_and_read_from_it(tmp_path: Path, bucket: str) -> None:
    own = subject(tmp_path / "benchmark", [pair(0)])
    output = place(f"{bucket}/out")
    before = [item.pictures[0].open() for item in own.items]
    measured(output, own, "mine", before, [figures(n) for n in range(2)])
    assert len(cards(Page(finished(output, own, SPECS[2:])))) == 2


REBUILT = """
import sys
for name in ("torch", "transformers", "diffusers"):
    sys.modules[name] = None
from reasonray.evaluation.run import evaluate
print(evaluate("mini", ["input=identity", "base=/b", "mine=/m"], [sys.argv[1]], sys.argv[2],
               ["evaluation.chunk_rows=4"]))
"""


def test_the_page_of_what_is_measured_is_made_again_without_models(tmp_path: Path) -> None:
    output, own = everyday(tmp_path)
    page = finished(output, own)
    page.unlink()
    for spec in SPECS:
        check_settings(tmp_path / "new", own, spec, load("mini", ["evaluation.chunk_rows=4"]))
    shutil.copytree(tmp_path / "new", output, dirs_exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-c", REBUILT, own.path, str(output)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(page)
    assert "everything is measured" in done.stderr
    assert len(cards(Page(page))) == 12

import re
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from pages import Page
from toy_outputs import write_table

from reasonray.core.errors import UserError
from reasonray.core.images import encode_png
from reasonray.core.recipe import load
from reasonray.core.record import (
    ACCEPTED_SCHEMA,
    PARTS,
    Row,
    Scores,
    is_rejected,
    reject,
    sample_id,
    to_table,
)
from reasonray.dataset.manifest import (
    KINDS,
    PoolTiming,
    StageTiming,
    Summary,
    make_manifest,
)
from reasonray.dataset.report.drawing import histogram, thumbnail
from reasonray.dataset.report.page import SAME_WORDS, SAMPLES_EACH_PART
from reasonray.generation.plan import write_plan
from reasonray.generation.report import survey, write_report
from reasonray.generation.work import Work
from reasonray.generation.workspace import Workspace

MB = 1_000_000


def noise(seed: int, size: tuple[int, int] = (20, 16)) -> PIL.Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3))
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def row(number: int, size: tuple[int, int] = (20, 16)) -> Row:
    part = PARTS[number % 3]
    made: Row = {
        "id": sample_id(part, "test", str(number)),
        "part": part,
        "source": "test",
        "source_id": str(number),
        "input_image": encode_png(noise(number, size)),
        "edited_image": encode_png(noise(number + 1, size)),
        "input_caption": "a bee",
        "edited_caption": "some honey",
        "instruction": f"Show what it makes, number {number}.",
        "direct_instruction": "Turn the bee into honey",
        "rationale": "Bees make honey.",
        "reasoning_type": "knowledge",
        "selected_category": "bee",
        "target_category": "honey",
        "box": [2.0, 3.0, 12.0, 13.0],
        "scores": {
            **cast(Scores, dict.fromkeys(Scores.__annotations__, 0.5)),
            "divergence": 0.01 * (number % 7),
            "clip_lead": 0.02 * (number % 3 - 1),
        },
        "provenance": {
            "models": [{"stage": "paint", "name": "the-painter", "revision": "abc"}],
            "prompts": [{"name": "replace", "version": "3"}],
        },
        "license": "CC BY-SA 4.0",
    }
    return made


def publish(folder: Path, rows: list[Row]) -> Path:
    """A finished output of these rows."""
    recipe = load("mini")
    summary = Summary()
    for kind, schema in KINDS.items():
        (folder / kind).mkdir(parents=True)
        chosen = [r for r in rows if is_rejected(r) == (kind == "rejected")]
        table = to_table(chosen, schema)
        summary.add(table, kind)
        half = len(chosen) // 2
        for name, piece in (("00000", table.slice(0, half)), ("00001", table.slice(half))):
            pq.write_table(piece, folder / kind / f"{name}.parquet", row_group_size=100)
    timings = {"paint": StageTiming(rows=len(rows), seconds=4.0, rows_per_second=1.0)}
    manifest = make_manifest(
        recipe,
        summary,
        threshold=0.001,
        seconds=90.0,
        timings=timings,
        pools={
            "load+rewrite": PoolTiming(busy_seconds=15, idle_seconds=45),
            "paint": PoolTiming(busy_seconds=0, idle_seconds=0),
        },
        warnings=["3 of 9 <b>"],
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def test_the_page_tells_where_the_run_waited(tmp_path: Path) -> None:
    page = Page(write_report(publish(tmp_path / "out", [row(0)])))
    [pool] = re.findall(r"load \+ rewrite</th>.*?</tr>", page.text, re.DOTALL)
    assert "60.0" in pool
    assert "25 %" in pool
    assert '>paint</th><td class="n">0.0' not in page.text


def test_the_page_tells_what_was_made_and_lost(tmp_path: Path) -> None:
    rows = [row(i) for i in range(60)]
    for lost in rows[:6]:
        reject(lost, "quality", "target_not_found", "honey scores 0.1 in the edited box")
    for lost in rows[6:9]:
        reject(lost, "load", "truncated_image", "a.jpg: cut off")
        lost["input_image"] = lost["edited_image"] = None
    page = Page(write_report(publish(tmp_path / "out", rows)))
    assert page.text.count('<article class="card') == 36
    assert page.text.count('class="line"') == 36 + 4
    for words in ("−6 target_not_found", "−3 truncated_image", "a.jpg: cut off", "the-painter"):
        assert words in page.text
    assert "Bees make honey." in page.text
    assert "Not finished" not in page.text


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    page = Page(write_report(publish(tmp_path / "out", [row(i) for i in range(6)])))
    assert page.links
    assert all(link.startswith(("data:image/webp;base64,", "#")) for link in page.links)
    assert "script" not in page.tags
    assert "url(" not in page.text


def test_every_text_of_a_row_is_escaped(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>\"'><b>&amp;{{ 7 * 7 }}"
    accepted, lost = row(1), row(2)
    for made in (accepted, lost):
        for name in ("source", "source_id", "input_caption", "edited_caption", "instruction",
                     "direct_instruction", "rationale", "reasoning_type", "selected_category",
                     "target_category", "license"):  # fmt: skip
            made[name] = attack
        made["candidates"] = made["categories"] = [attack]
        made["id"] = f"II/{attack}/{id(made)}"
        made["provenance"] = {
            "models": [{"stage": attack, "name": attack, "revision": attack}],
            "prompts": [{"name": attack, "version": attack}],
        }
    reject(lost, attack, attack, attack)
    page = Page(write_report(publish(tmp_path / attack.replace("/", ""), [accepted, lost])))
    assert "script" not in page.tags
    assert "<b>&amp;{{" not in page.text
    assert "{{ 7 * 7 }}" in page.text


@pytest.mark.slow
def test_a_large_output_gives_a_small_page(tmp_path: Path) -> None:
    # The worst that can happen: large pictures of noise wherever one is shown.
    table = to_table([row(i, (640, 480)) for i in range(30)], ACCEPTED_SCHEMA)
    output = publish(tmp_path / "out", [row(i, (1, 1)) for i in range(200)] * 100)
    pq.write_table(table, output / "accepted/00002.parquet")
    for path in ("00000", "00001"):
        (output / f"accepted/{path}.parquet").rename(output / f"accepted/small{path}.parquet")
    assert write_report(output).stat().st_size < 5 * MB


def test_pictures_of_noise_stay_within_their_bytes() -> None:
    shown = thumbnail(encode_png(noise(0, (640, 480))), 256, 24_000)
    assert shown is not None
    assert len(shown.uri) < 24_000 * 1.4
    assert (shown.width, shown.height) == (640, 480)


def test_only_the_sampled_row_groups_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = publish(tmp_path / "out", [row(i, (1, 1)) for i in range(150)] * 40)
    read = []
    original = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, number: int) -> object:
        read.append(number)
        return original(self, number)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    write_report(output)
    assert 0 < len(read) <= 3 * SAMPLES_EACH_PART + SAME_WORDS


def test_the_sample_is_random_and_the_same_again(tmp_path: Path) -> None:
    output = publish(tmp_path / "out", [row(i, (1, 1)) for i in range(900)])
    first, again = ([r["id"] for r in survey(output).sample(5)] for _ in range(2))
    assert first == again
    assert [name.split("/")[0] for name in first] == ["I", "II", "III"] * 5
    assert first != [row(i)["id"] for i in range(15)]


def test_one_instruction_with_several_right_answers_is_shown(tmp_path: Path) -> None:
    rows = [row(i) for i in range(30)]
    targets = ["honey", "milk", "egg", "yarn"]
    for made in rows[:8]:
        made["instruction"] = "Show what it makes."
        made["target_category"] = targets[int(made["source_id"]) % 4]
    shown = survey(publish(tmp_path / "out", rows)).same_words(3)
    assert len({made["target_category"] for made in shown}) == 3
    assert {made["instruction"] for made in shown} == {"Show what it makes."}


def test_a_run_that_is_going_is_shown_as_far_as_it_is_committed(tmp_path: Path) -> None:
    rows = [row(i) for i in range(40)]
    reject(rows[0], "ground", "no_object", "nothing found")
    workspace = Workspace(tmp_path / "out")
    with workspace.session() as first:
        write_plan(workspace, first, load("mini"), rows, ["5 files are passed over"])
    with pytest.raises(UserError, match="nor a run that has begun"):
        write_report(tmp_path / "elsewhere")
    page = Page(write_report(tmp_path / "out"))
    assert "0 of 40 rows committed" in page.text
    assert "5 files are passed over." in page.text
    work = Work(workspace, first)
    for name, chosen in (("a", rows[:10]), ("b", rows[10:20])):
        for kind in KINDS:
            table = to_table([r for r in chosen if is_rejected(r) == (kind == "rejected")])
            write_table(table, work.rows / f"status={kind}" / f"{name}-0.parquet")
        if name == "a":
            write_table(to_table(chosen).select(["id"]), work.checkpoint / f"{name}.parquet")
    page = Page(write_report(tmp_path / "out"))
    assert "10 of 40 rows committed" in page.text
    assert "−1 no_object" in page.text
    assert page.text.count('<article class="card') == 9
    with workspace.session() as second:
        # Two rows are to be done again: they do not count.
        work = Work(workspace, second)
        work.seal(work.before().slice(2))
    page = Page(write_report(tmp_path / "out"))
    assert "8 of 40 rows committed" in page.text


def test_an_output_without_a_single_sample_has_a_page(tmp_path: Path) -> None:
    rows = [row(i) for i in range(5)]
    for lost in rows:
        reject(lost, "load", "unreadable_image", "no picture")
        lost["scores"] = {}
    page = Page(write_report(publish(tmp_path / "out", rows)))
    assert "None yet." in page.text
    assert "3 of 9 &lt;b&gt;." in page.text
    assert "−5 unreadable_image" in page.text


def test_a_picture_that_cannot_be_read_is_no_end_of_the_page(tmp_path: Path) -> None:
    made = row(1)
    made["input_image"] = {"bytes": b"not a picture", "path": "a.jpg"}
    assert "no picture" in Page(write_report(publish(tmp_path / "out", [made]))).text


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match=r"holiday\.jpg"):
        write_report(tmp_path)


def test_a_histogram_of_values_on_both_sides_of_zero_shows_all_of_them() -> None:
    drawn = histogram(np.array([-0.2, 0.1, 0.2]), np.array([-0.1]), 0.0)
    bars = re.findall(r'<rect class="\w+" x="([\d.-]+)"', drawn)
    assert len(bars) == 4
    assert "values from -0.2 to 0.2, limit 0" in drawn

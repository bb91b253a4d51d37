"""Benchmarks made of a finished output, and pictures that were trained on."""

import errno
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tiny_base

from reasonray.core.errors import RunError, UserError
from reasonray.core.images import decode, encode_jpeg, encode_png
from reasonray.core.record import Image, Row
from reasonray.evaluation.benchmarks import ours
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.creation import check_target, make_benchmark


def picture(number: int) -> PIL.Image.Image:
    """Unlike that of any other number."""
    coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((64, 64), PIL.Image.Resampling.BICUBIC)


def sample(number: int, **changes: object) -> Row:
    fields: dict[str, object] = {
        "input_image": encode_png(picture(number)),
        "edited_image": encode_png(PIL.ImageOps.invert(picture(number))),
        "selected_category": "bee",
        "target_category": "honey",
        "reasoning_type": "knowledge",
        "box": [1.0, 2.0, 3.0, 4.0],
        "license": "CC0-1.0",
    }
    return tiny_base.sample(number, "III", **{**fields, **changes})


def data(folder: Path, *rows: Row) -> Path:
    return tiny_base.data(folder, list(rows))


def test_a_pair_has_direct_instructions_of_several_templates_and_a_reasoning_one(
    tmp_path: Path,
) -> None:
    made = data(tmp_path / "data", *(sample(number) for number in range(4)))
    assert make_benchmark(made, tmp_path / "out", 3, against=[]) == 3
    items = Ours(str(tmp_path / "out")).items()
    assert len(items) == 9
    reasoning, direct, other = items[:3]
    assert (reasoning.group, direct.group, other.group) == ("reasoning", "direct", "direct")
    assert direct.instruction == "Turn the bee into some honey"
    assert other.instruction not in (direct.instruction, reasoning.instruction)
    assert "honey" in other.instruction
    assert len({item.id for item in items}) == 9
    before, after = direct.pictures[0].open(), direct.references[0].open()
    assert PIL.ImageOps.invert(before).tobytes() == after.tobytes()
    assert (direct.input_caption, direct.reference_text) == ("a bee", "some honey")
    assert direct.fields == {
        "part": "III",
        "reasoning_type": "knowledge",
        "selected_category": "bee",
        "target_category": "honey",
        "box": [1.0, 2.0, 3.0, 4.0],
    }


def test_a_larger_draw_holds_a_smaller_one(tmp_path: Path) -> None:
    made = data(tmp_path / "data", *(sample(number) for number in range(9)))
    drawn = []
    for count in (3, 6):
        make_benchmark(made, tmp_path / f"{count}", count, against=[])
        drawn.append({item.id for item in Ours(str(tmp_path / f"{count}")).items()})
    assert drawn[0] < drawn[1]


def test_too_few_samples_are_said(tmp_path: Path) -> None:
    made = data(tmp_path / "data", sample(0), sample(1, target_category=None))
    with pytest.raises(UserError, match="1 samples that can be asked for plainly and with reason"):
        make_benchmark(made, tmp_path / "out", 2, against=[])


def again(image: Image | None) -> Image:
    assert image is not None
    return encode_jpeg(decode(image).resize((57, 57)))


@pytest.mark.parametrize("is_renamed", [False, True])
def test_a_picture_that_was_trained_on_is_named(tmp_path: Path, is_renamed: bool) -> None:
    """By its id, or by its looks in another file, smaller and JPEG."""
    source = {"source": "v3det-train"}
    tested = data(tmp_path / "tested", sample(0, **source), sample(1, **source))
    twin = sample(1)
    if is_renamed:
        twin = sample(7, input_image=again(twin["input_image"]))
    else:
        twin = sample(1, input_image=encode_png(picture(9)), **source)
    trained = data(tmp_path / "trained", sample(5), twin)
    with pytest.raises(UserError, match=r"trained: sample III/toy/000[17]/0 has the picture of "):
        make_benchmark(tested, tmp_path / "out", 2, against=[str(trained)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["folder", "folder-3f0a12", "instructpix2pix-parquet"])
def test_files_of_one_name_are_no_leak(tmp_path: Path, source: str) -> None:
    """Two folders may both hold a 0001.jpg, and two data sets a train-00000.parquet."""
    tested = data(tmp_path / "tested", sample(1, source=source))
    other = sample(1, source=source, input_image=encode_png(picture(9)))
    trained = data(tmp_path / "trained", other)
    assert make_benchmark(tested, tmp_path / "out", 1, against=[str(trained)]) == 1


def test_others_pictures_are_no_leak(tmp_path: Path) -> None:
    tested = data(tmp_path / "tested", *(sample(number) for number in range(20)))
    trained = data(tmp_path / "trained", *(sample(number) for number in range(20, 60)))
    assert make_benchmark(tested, tmp_path / "out", 20, against=[str(trained)]) == 20


def test_what_cannot_become_a_benchmark_is_said_before_anything_is_generated(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file: cannot be used \(Not a directory\)"):
        check_target(tmp_path / "file", [])
    with pytest.raises(UserError, match=r"nowhere: no complete output"):
        check_target(tmp_path / "out", [str(tmp_path / "nowhere")])


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = data(tmp_path / "data", sample(0))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ours, "write_table", full)
    with pytest.raises(RunError, match="no space left"):
        make_benchmark(made, tmp_path / "out", 1, against=[])


def test_an_output_that_holds_something_is_refused(tmp_path: Path) -> None:
    made = data(tmp_path / "data", sample(0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else; give a new or empty folder"):
        make_benchmark(made, tmp_path / "out", 1, against=[])


def test_what_a_process_that_was_killed_left_of_its_last_file_is_no_other_s(
    tmp_path: Path,
) -> None:
    made = data(tmp_path / "data", sample(0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.benchmark.json.4711").write_text("{")
    check_target(tmp_path / "out", [])
    assert make_benchmark(made, tmp_path / "out", 1, against=[]) == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other/.notes.json.4711").write_text("{")
    with pytest.raises(UserError, match="holds something else"):
        check_target(tmp_path / "other", [])

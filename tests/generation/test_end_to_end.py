"""The shipped `mini` recipe on real Ray: its scenes, and pictures it was never trained for."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter
import pytest

import reasonray
from reasonray.dataset.manifest import KINDS, Manifest
from reasonray.dataset.reading import read_rows
from reasonray.prompts.words import naming

# Ray warns of its own deprecations.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

NUM_SCENES = 10


@pytest.fixture(scope="module")
def made(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    output = tmp_path_factory.mktemp("mini") / "out"
    return output, reasonray.generate("mini", output, sources=[f"mini={NUM_SCENES}"])


def test_all_three_parts_give_samples(made: tuple[Path, Manifest]) -> None:
    _, manifest = made
    assert manifest.inputs == manifest.accepted + manifest.rejected
    assert set(manifest.parts) == {"I", "II", "III"}
    for part in manifest.parts.values():
        assert part.accepted >= 0.6 * part.inputs, manifest.rejections
    assert "error" not in str(manifest.rejections)


def test_instructions_never_name_the_target_and_pictures_change_in_the_box_alone(
    made: tuple[Path, Manifest],
) -> None:
    output, _ = made
    for record in reasonray.read(output):
        assert record["instruction"] != record["direct_instruction"]
        if record["part"] == "I":
            continue
        assert naming(record["instruction"], [record["target_category"]]) is None
        assert record["target_category"] in record["edited_caption"]
        before, after = (np.asarray(record[f"{name}_image"]) for name in ("input", "edited"))
        left, top, right, bottom = record["box"]
        outside = np.ones(before.shape[:2], dtype=bool)
        outside[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = False
        assert np.array_equal(before[outside], after[outside])
        assert np.abs(before.astype(int) - after)[~outside].mean() > 2


def test_painted_pictures_are_webp_without_loss_and_no_other_file_is_encoded_anew(
    made: tuple[Path, Manifest],
) -> None:
    output, _ = made
    for kind in KINDS:
        for row in read_rows(output, kind):
            if row["edited_image"] is not None:
                image = PIL.Image.open(io.BytesIO(row["edited_image"]["bytes"]))
                assert image.format == ("JPEG" if row["part"] == "I" else "WEBP")


def test_the_second_run_has_nothing_to_do(
    made: tuple[Path, Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    output, manifest = made
    again = reasonray.generate("mini", output, sources=[f"mini={NUM_SCENES}"])
    assert again == manifest
    assert "nothing to do" in capsys.readouterr().err


WITHOUT_GATES = [
    f"stages.quality.{gate}=null"
    for gate in ("min_target_score", "min_target_lead", "max_selected_score", "min_clip_lead")
]
"""The tiny models know no photographs, so that none of their edits would be let through."""


def test_photographs_and_broken_files_all_come_out_with_a_reason(
    ray_session: None, tmp_path: Path
) -> None:
    folder = tmp_path / "v3det"
    broken = _write_photographs(folder)
    output = tmp_path / "out"
    manifest = reasonray.generate(
        "mini", output, sources=[f"v3det={folder}"], parts=["III"], overrides=WITHOUT_GATES
    )
    rejected = {Path(row["input_uri"]).name: row for row in _rejections(output)}
    accepted = list(reasonray.read(output))
    assert manifest.inputs == len(accepted) + len(rejected)
    for name, reason in broken.items():
        row = rejected[name]
        assert (row["stage"], row["reason"]) == ("load", reason)
        assert name in row["detail"]
    [warning] = manifest.warnings
    assert "the tiny ones that ship with reasonray" in warning
    assert all(warning in (output / page).read_text() for page in ("README.md", "report.html"))
    whole = [row for name, row in rejected.items() if name not in broken]
    assert all(row["stage"] != "load" and row["reason"] != "error" for row in whole), whole


def _rejections(output: Path) -> list[dict[str, str]]:
    import pyarrow.parquet as pq

    columns = ["source_id", "stage", "reason", "detail"]
    rows = pq.read_table(output / "rejected", columns=columns).to_pylist()
    listed = json.loads((output.parent / "v3det/annotations/photos_train.json").read_text())
    names = {str(image["id"]): image["file_name"] for image in listed["images"]}
    return [{**row, "input_uri": names[row["source_id"]]} for row in rows]


def _photograph(width: int, height: int, seed: int) -> PIL.Image.Image:
    """What a camera gives: a sky, a ground, things at many distances, blur and grain."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, height)[:, None, None]
    top, bottom = rng.integers(0, 256, (2, 3))
    picture = PIL.Image.fromarray((top + (bottom - top) * ramp).repeat(width, 1).astype(np.uint8))
    draw = PIL.ImageDraw.Draw(picture)
    for size in np.geomspace(0.5, 0.02, 40) * min(width, height):
        left, up = rng.uniform(0, [width, height]) - size / 2
        colour = tuple(rng.integers(0, 256, 3).tolist())
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, up, left + size * rng.uniform(0.5, 2), up + size), fill=colour)
    soft = np.asarray(picture.filter(PIL.ImageFilter.GaussianBlur(1.5)))
    grain = rng.normal(0, 6, soft.shape)
    return PIL.Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8))


def _write_photographs(folder: Path) -> dict[str, str]:
    """Photographs of many sizes in V3Det's layout; gives the broken ones and their reasons."""
    portrait, square, wide = (
        _photograph(*size, seed) for seed, size in enumerate([(480, 640), (512, 512), (640, 427)])
    )
    turned = PIL.Image.Exif()
    turned[PIL.ExifTags.Base.Orientation] = 6
    files = {
        "portrait.jpg": _jpeg(portrait),
        "square.jpg": _jpeg(square),
        "wide.jpg": _jpeg(wide),
        "grey.jpg": _jpeg(square.convert("L")),
        "turned.jpg": _jpeg(wide, exif=turned),
        "cmyk.jpg": _jpeg(wide.convert("CMYK")),
        "strip.jpg": _jpeg(wide.crop((0, 100, 640, 180))),
        "cut.jpg": _jpeg(portrait)[:8000],
        "empty.jpg": b"",
        "text.jpg": b"<html>404 Not Found</html>",
        "tiny.jpg": _jpeg(wide.resize((8, 6))),
    }
    images = []
    for number, (name, content) in enumerate(files.items(), start=1):
        path = folder / "images" / "n0001" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        images.append({"id": number, "file_name": f"images/n0001/{name}"})
    images.append({"id": 99, "file_name": "images/n0002/missing.jpg"})
    annotations = folder / "annotations" / "photos_train.json"
    annotations.parent.mkdir(parents=True)
    annotations.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return {
        "cut.jpg": "truncated_image",
        "empty.jpg": "unreadable_image",
        "text.jpg": "unreadable_image",
        "tiny.jpg": "too_small",
        "missing.jpg": "missing_image",
    }


def _jpeg(image: PIL.Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()

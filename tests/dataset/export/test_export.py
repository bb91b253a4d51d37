import io
import json
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import yaml
from toy_stages import recipe

import reasonray
from reasonray.core import images
from reasonray.core.errors import RunError, UserError
from reasonray.core.reading import read_bytes
from reasonray.core.record import ACCEPTED_SCHEMA, PARTS, Image, Part, Row, sample_id, to_table
from reasonray.core.sections import EditedFormat, OutputConfig, SourceConfig
from reasonray.core.writing import write_file
from reasonray.dataset.export import Format, instructpix2pix, parquet
from reasonray.dataset.export.squares import squared
from reasonray.dataset.manifest import MANIFEST, Summary, make_manifest
from reasonray.dataset.reading import read_rows
from reasonray.dataset.shards import Shards, with_image_features
from reasonray.sources.instructpix2pix import read as read_instructpix2pix

SIZE = (24, 24)


def noise(seed: int, size: tuple[int, int] = SIZE) -> PIL.Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3))
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def encoded(image: PIL.Image.Image, kind: str, **options: object) -> Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return {"bytes": buffer.getvalue(), "path": f"x.{kind.lower()}"}


def sample(part: Part, number: int, variation: int = 0, **changes: object) -> Row:
    seed = 100 * PARTS.index(part) + 10 * number + variation
    row = {
        "id": sample_id(part, "toy", f"{number:04}", variation),
        "part": part,
        "source": "toy",
        "source_id": f"{number:04}",
        "input_image": encoded(noise(number), "PNG"),
        "edited_image": encoded(noise(1000 + seed), "PNG"),
        "input_caption": f"a bee {seed}",
        "edited_caption": f"honey {seed}",
        "instruction": f"show what {seed} makes",
        "direct_instruction": f"turn {seed} to honey",
        "box": None if part == "I" else [2.5, 3.0, 10.2, 12.0],
        "license": "CC0-1.0" if part == "I" else None,
    }
    return {**row, **changes}  # type: ignore[typeddict-item]


def output(folder: Path, rows: list[Row]) -> Path:
    """A complete output of these accepted rows."""
    schema = with_image_features(ACCEPTED_SCHEMA)
    shards = Shards(folder / "accepted", schema, OutputConfig())
    summary = Summary()
    table = to_table(sorted(rows, key=lambda row: row["id"]), ACCEPTED_SCHEMA)
    if rows:
        shards.write(table)
        summary.add(table, "accepted")
    shards.close()
    manifest = make_manifest(recipe(), summary, threshold=None, seconds=1, timings={})
    write_file(folder / MANIFEST, manifest.model_dump_json())
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two samples of each part, and a second variation in Part II."""
    rows = [sample(part, number) for part in PARTS for number in range(2)]
    return output(tmp_path / "made", [*rows, sample("II", 1, variation=1)])


def table(folder: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / "train").to_pylist())


def pixels(data: bytes) -> np.ndarray:
    """As a trainer sees them that knows nothing of EXIF."""
    return np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))


def load_dataset(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    return datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def test_our_reader_of_instructpix2pix_reads_an_export_back(made: Path, tmp_path: Path) -> None:
    assert reasonray.export(made, "instructpix2pix", tmp_path / "out") == 7
    source = SourceConfig(format="instructpix2pix", path=str(tmp_path / "out"))
    items = list(read_instructpix2pix(source, []))
    rows = list(read_rows(made))
    assert [item.direct_instruction for item in items] == [row["instruction"] for row in rows]
    assert [item.input_caption for item in items] == [row["input_caption"] for row in rows]
    assert [item.edited_caption for item in items] == [row["edited_caption"] for row in rows]
    for item, row in zip(items, rows, strict=True):
        assert row["edited_image"] is not None
        data = read_bytes(item.edited_uri or "")
        assert data.startswith(b"\xff\xd8\xff")
        off = pixels(data).astype(int) - pixels(row["edited_image"]["bytes"])
        assert np.abs(off).mean() < 5  # noise is what JPEG is worst at


def test_edit_dataset_finds_what_its_seeds_name(made: Path, tmp_path: Path) -> None:
    # What EditDataset.__getitem__ of timothybrooks/instruct-pix2pix opens, for each index.
    reasonray.export(made, "instructpix2pix", tmp_path / "out", instruction="both")
    edits = []
    for name, seeds in json.loads((tmp_path / "out/seeds.json").read_text()):
        prompt = tmp_path / "out" / name
        edits.append(json.loads((prompt / "prompt.json").read_text())["edit"])
        for seed in seeds:
            for number in (0, 1):
                with PIL.Image.open(prompt / f"{seed}_{number}.jpg") as picture:
                    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", SIZE)
    names = ("instruction", "direct_instruction")
    texts = [str(dict(row)[name]) for row in read_rows(made) for name in names]
    assert sorted(edits) == sorted(texts)


def test_rows_of_one_input_stand_together_in_seeds(tmp_path: Path) -> None:
    rows = [sample(part, number) for part in ("I", "II") for number in range(20)]
    reasonray.export(output(tmp_path / "made", rows), "instructpix2pix", tmp_path / "out")
    inputs = []
    for name, _ in json.loads((tmp_path / "out/seeds.json").read_text()):
        metadata = json.loads((tmp_path / "out" / name / "metadata.jsonl").read_text())
        inputs.append(metadata["id"].split("/")[2])
    assert inputs[::2] == inputs[1::2]
    assert inputs[::2] != sorted(inputs[::2])


def test_prompts_are_spread_over_shards(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructpix2pix, "SHARD_PROMPTS", 3)
    reasonray.export(made, "instructpix2pix", tmp_path / "out")
    prompts = [path.parent for path in (tmp_path / "out").rglob("prompt.json")]
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in prompts) == [
        *(f"shard-00/000000{n}" for n in (0, 1, 2)),
        *(f"shard-01/000000{n}" for n in (3, 4, 5)),
        "shard-02/0000006",
    ]


@pytest.mark.filterwarnings("default")  # of datasets and what it imports
def test_datasets_opens_what_diffusers_reads(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reasonray.export(made, "diffusers", tmp_path / "out", instruction="direct") == 7
    rows = load_dataset(tmp_path / "out", tmp_path, monkeypatch)
    assert rows.column_names == ["input_image", "edit_prompt", "edited_image"]
    assert [type(kind).__name__ for kind in rows.features.values()] == ["Image", "Value", "Image"]
    for row, ours in zip(rows, reasonray.read(made), strict=True):
        assert row["edit_prompt"] == ours["direct_instruction"]
        for name in ("input_image", "edited_image"):
            assert np.array_equal(row[name].convert("RGB"), ours[name])


@pytest.mark.filterwarnings("default")
def test_datasets_opens_the_columns_of_magicbrush(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reasonray.export(made, "magicbrush", tmp_path / "out") == 7
    rows = load_dataset(tmp_path / "out", tmp_path, monkeypatch)
    kinds = {name: getattr(kind, "dtype", None) for name, kind in rows.features.items()}
    assert kinds == {
        "img_id": "string",
        "turn_index": "int32",
        "source_img": "PIL.Image.Image",
        "mask_img": "PIL.Image.Image",
        "instruction": "string",
        "target_img": "PIL.Image.Image",
    }
    assert set(rows["turn_index"]) == {1}
    assert rows[0]["mask_img"].mode == "RGBA"
    assert [unquote(name) for name in rows["img_id"]] == [
        f"{row['id']}/reasoning" for row in read_rows(made)
    ]
    assert not any("/" in name for name in rows["img_id"])


def test_a_mask_is_the_source_with_the_edited_box_transparent_white(
    made: Path, tmp_path: Path
) -> None:
    reasonray.export(made, "magicbrush", tmp_path / "out", parts=["II"])
    for row in table(tmp_path / "out"):
        seen = np.asarray(PIL.Image.open(io.BytesIO(row["mask_img"]["bytes"])))
        region = np.zeros(SIZE[::-1], bool)
        region[3:12, 2:11] = True
        assert np.array_equal(seen[..., 3] == 0, region)
        assert (seen[region] == (255, 255, 255, 0)).all()
        assert np.array_equal(seen[~region][:, :3], pixels(row["source_img"]["bytes"])[~region])


def test_without_a_box_the_whole_picture_may_be_edited(made: Path, tmp_path: Path) -> None:
    reasonray.export(made, "magicbrush", tmp_path / "out", parts=["I"])
    for row in table(tmp_path / "out"):
        seen = PIL.Image.open(io.BytesIO(row["mask_img"]["bytes"]))
        assert seen.size == SIZE
        assert (np.asarray(seen) == (255, 255, 255, 0)).all()


@pytest.mark.parametrize("format", ["diffusers", "magicbrush"])
def test_both_instructions_make_two_rows_of_a_sample(
    made: Path, tmp_path: Path, format: Format
) -> None:
    assert reasonray.export(made, format, tmp_path / "out", instruction="both") == 14
    rows = table(tmp_path / "out")
    texts = [row.get("edit_prompt") or row["instruction"] for row in rows]
    assert texts[:2] == ["show what 0 makes", "turn 0 to honey"]
    assert len(set(texts)) == 14
    if format == "magicbrush":
        assert len({row["img_id"] for row in rows}) == 14


def test_png_and_jpeg_bytes_pass_through_unchanged(tmp_path: Path) -> None:
    row: Any = sample("III", 0, input_image=encoded(noise(0), "JPEG"))
    made = output(tmp_path / "made", [row])
    reasonray.export(made, "diffusers", tmp_path / "parquet")
    [seen] = table(tmp_path / "parquet")
    assert seen["input_image"]["bytes"] == row["input_image"]["bytes"]
    assert seen["edited_image"]["bytes"] == row["edited_image"]["bytes"]
    reasonray.export(made, "instructpix2pix", tmp_path / "folders")
    [path] = (tmp_path / "folders").rglob("0_0.jpg")
    assert path.read_bytes() == row["input_image"]["bytes"]


@pytest.mark.parametrize("format", ["diffusers", "instructpix2pix"])
@pytest.mark.parametrize("kind", ["turned", "transparent", "grey", "webp"])
def test_pictures_that_readers_show_differently_are_encoded_anew(
    kind: str, format: Format, tmp_path: Path
) -> None:
    smooth = noise(5, (3, 2)).resize(SIZE)
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    image = {
        "turned": encoded(smooth, "JPEG", exif=turned, quality=95),
        "transparent": encoded(parquet_mask(smooth), "PNG"),
        "grey": encoded(smooth.convert("L"), "JPEG", quality=95),
        "webp": encoded(smooth, "WEBP", lossless=True),
    }[kind]
    made = output(tmp_path / "made", [sample("III", 0, input_image=image)])
    reasonray.export(made, format, tmp_path / "out")
    if format == "diffusers":
        data = table(tmp_path / "out")[0]["input_image"]["bytes"]
    else:
        [path] = (tmp_path / "out").rglob("0_0.jpg")
        data = path.read_bytes()
    raw = PIL.Image.open(io.BytesIO(data))
    assert (raw.mode, raw.format) == ("RGB", "PNG" if format == "diffusers" else "JPEG")
    off = pixels(data).astype(int) - np.asarray(images.decode(image))
    assert np.abs(off).mean() < (1e-9 if format == "diffusers" else 3)


@pytest.mark.parametrize("edited_format", get_args(EditedFormat))
@pytest.mark.parametrize("format", get_args(Format))
def test_trainers_get_png_or_jpeg_whatever_the_painted_pictures_are(
    edited_format: EditedFormat, format: Format, tmp_path: Path
) -> None:
    image = images.encode(noise(5, (3, 2)).resize(SIZE), edited_format)
    made = output(tmp_path / "made", [sample("III", 0, edited_image=image)])
    [record] = reasonray.read(made)
    reasonray.export(made, format, tmp_path / "out")
    if format == "instructpix2pix":
        [path] = (tmp_path / "out").rglob("0_1.jpg")
        data, known = path.read_bytes(), "JPEG"
    else:
        name = "edited_image" if format == "diffusers" else "target_img"
        data = table(tmp_path / "out")[0][name]["bytes"]
        known = "JPEG" if edited_format == "jpeg" else "PNG"
    assert PIL.Image.open(io.BytesIO(data)).format == known
    off = pixels(data).astype(int) - np.asarray(record["edited_image"])
    assert np.abs(off).mean() < (3 if format == "instructpix2pix" else 1e-9)


def parquet_mask(image: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(parquet.mask(image, [0, 0, 9, 9])))


def test_only_the_chosen_parts_are_exported(made: Path, tmp_path: Path) -> None:
    assert reasonray.export(made, "diffusers", tmp_path / "out", parts=["III", "I"]) == 4
    texts = [row["edit_prompt"] for row in table(tmp_path / "out")]
    assert texts == [f"show what {n} makes" for n in (0, 10, 200, 210)]


@pytest.mark.parametrize("format", ["instructpix2pix", "diffusers", "magicbrush"])
def test_the_card_says_where_the_rows_come_from(made: Path, tmp_path: Path, format: Format) -> None:
    reasonray.export(made, format, tmp_path / "out", instruction="both", parts=["I", "II"])
    card = (tmp_path / "out/README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert ("configs" in head) == (format != "instructpix2pix")
    assert "10 rows: 5 samples, each with its reasoning and its direct instruction" in card
    assert "| I | 2 |" in card
    assert "| II | 3 |" in card
    assert "| III |" not in card
    assert "- CC0-1.0: 2 samples" in card
    assert "- not stated: 3 samples" in card
    assert f"exported as `{format}`" in card


def test_many_rows_are_written_in_small_groups(tmp_path: Path) -> None:
    rows = [sample("III", number) for number in range(130)]
    reasonray.export(output(tmp_path / "made", rows), "diffusers", tmp_path / "out")
    [path] = (tmp_path / "out/train").iterdir()
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [100, 30]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"format": "difusers"}, "format difusers: unknown .did you mean diffusers"),
        ({"format": "xyz"}, "valid: instructpix2pix, diffusers, magicbrush"),
        ({"instruction": "indirect"}, "did you mean direct"),
        ({"parts": ["IV"]}, "parts IV: unknown"),
        ({"output": "ftp://host/out"}, "expected a folder or a URI of s3"),
    ],
)
def test_unknown_words_are_refused(made: Path, tmp_path: Path, words: dict, message: str) -> None:
    wanted = {"format": "diffusers", "output": tmp_path / "out", **words}
    with pytest.raises(UserError, match=message):
        reasonray.export(made, **wanted)


def test_a_place_that_cannot_be_made_is_said(made: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/out: cannot be used \(Not a directory\)"):
        reasonray.export(made, "diffusers", tmp_path / "file" / "out")


def test_what_is_no_complete_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no complete output"):
        reasonray.export(tmp_path / "nowhere", "diffusers", tmp_path / "out")
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(UserError, match="not made by reasonray"):
        reasonray.export(tmp_path, "diffusers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_without_accepted_samples_is_refused(made: Path, tmp_path: Path) -> None:
    empty = output(tmp_path / "empty", [])
    with pytest.raises(UserError, match="no accepted samples of part I, II, III"):
        reasonray.export(empty, "diffusers", tmp_path / "out")
    one = output(tmp_path / "one", [sample("I", 0)])
    with pytest.raises(UserError, match="no accepted samples of part III"):
        reasonray.export(one, "diffusers", tmp_path / "out", parts=["III"])
    assert not (tmp_path / "out").exists()


def test_an_output_that_holds_something_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    reasonray.export(made, "diffusers", tmp_path / "out")  # an empty folder will do
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(UserError, match="is there already"):
        reasonray.export(made, "instructpix2pix", tmp_path / "out")
    assert sorted((tmp_path / "out").rglob("*")) == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is there already"):
        reasonray.export(made, "diffusers", tmp_path / "file")


@pytest.mark.parametrize(
    ("error", "seen"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "no space"), RunError)],
)
def test_an_export_that_fails_leaves_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, seen: type
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(instructpix2pix.InstructPix2Pix, "close", fail)
    with pytest.raises(seen):
        reasonray.export(made, "instructpix2pix", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_progress_is_told_on_the_error_output(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasonray.export(made, "diffusers", tmp_path / "out")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("7/7 samples, ")


def long_sample(number: int, box: list[float] | None, size: tuple[int, int] = (90, 30)) -> Row:
    """A pair that differs in a place 20 pixels wide at the left edge."""
    before = noise(number, (9, 3)).resize(size, PIL.Image.Resampling.BICUBIC)
    after = before.copy()
    after.paste((255, 0, 255), (0, 5, 20, 25))
    pictures: dict[str, Any] = {
        "input_image": encoded(before, "PNG"),
        "edited_image": encoded(after, "PNG"),
    }
    return sample("III" if box else "I", number, box=box, **pictures)


@pytest.mark.parametrize("format", ["diffusers", "instructpix2pix"])
def test_trainers_that_make_squares_get_some_that_keep_the_edit(
    tmp_path: Path, format: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [long_sample(0, [0, 5, 20, 25]), long_sample(1, None), long_sample(2, [0, 0, 60, 30])]
    made = output(tmp_path / "made", rows)
    assert reasonray.export(made, format, tmp_path / "out") == 2
    assert "1 samples are left out: no square keeps their edit" in capsys.readouterr().err
    card = (tmp_path / "out/README.md").read_text()
    assert "Of 1 more samples no square keeps the edit" in card
    if format == "diffusers":
        pairs = [(row["input_image"]["bytes"], row["edited_image"]["bytes"])
                 for row in table(tmp_path / "out")]  # fmt: skip
    else:
        paths = sorted((tmp_path / "out").rglob("0_0.jpg"))
        pairs = [(path.read_bytes(), path.with_name("0_1.jpg").read_bytes()) for path in paths]
    assert len(pairs) == 2
    for before, after in pairs:
        assert PIL.Image.open(io.BytesIO(before)).size == (30, 30)
        changed = np.abs(pixels(before).astype(int) - pixels(after)).max(2) > 30
        assert 0.8 * 400 < changed.sum() < 1.3 * 400


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((90, 30), (70, 5, 90, 25)),
        ((30, 90), (5, 0, 25, 20)),
        ((30, 90), (5, 70, 25, 90)),
        ((90, 30), (0, 0, 32, 30)),
        ((30, 90), (0, 58, 30, 90)),
    ],
)
@pytest.mark.parametrize("has_box", [True, False])
def test_a_square_keeps_an_edit_at_any_border(
    size: tuple[int, int], box: tuple[int, int, int, int], has_box: bool
) -> None:
    before = noise(0, (size[0] // 10, size[1] // 10)).resize(size, PIL.Image.Resampling.BICUBIC)
    after = before.copy()
    after.paste((255, 0, 255), box)
    row = sample(
        "III" if has_box else "I", 0, box=[float(v) for v in box] if has_box else None,
        input_image=encoded(before, "PNG"), edited_image=encoded(after, "PNG"),
    )  # fmt: skip
    square = squared(row, jpeg=False)
    assert square is not None
    assert square["input_image"] is not None
    assert square["edited_image"] is not None
    pair = [
        pixels(image["bytes"]).astype(int)
        for image in (square["input_image"], square["edited_image"])
    ]
    assert pair[0].shape == pair[1].shape == (30, 30, 3)
    changed = np.abs(pair[0] - pair[1]).max(2) > 8
    assert changed.sum() >= 0.85 * (box[2] - box[0]) * (box[3] - box[1])


def test_a_box_that_is_longer_than_the_square_is_left_out_at_any_border() -> None:
    for size, box in (((90, 30), (50, 0, 90, 30)), ((30, 90), (0, 0, 30, 40))):
        row = long_sample(0, [float(v) for v in box], size)
        assert squared(row, jpeg=False) is None


def test_pictures_stay_whole_where_asked_and_where_no_trainer_makes_squares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = long_sample(0, [0, 0, 60, 30])
    made = output(tmp_path / "made", [row])
    assert row["input_image"] is not None
    assert reasonray.export(made, "diffusers", tmp_path / "whole", whole=True) == 1
    assert reasonray.export(made, "magicbrush", tmp_path / "brush") == 1
    assert table(tmp_path / "whole")[0]["input_image"]["bytes"] == row["input_image"]["bytes"]
    assert table(tmp_path / "brush")[0]["source_img"]["bytes"] == row["input_image"]["bytes"]
    assert "left out" not in capsys.readouterr().err

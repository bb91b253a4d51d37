import errno
import io
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import JpegImagePlugin

from reasonray.core import reading
from reasonray.core.errors import RunError
from reasonray.core.record import Row
from reasonray.core.sections import ImagesConfig
from reasonray.stages.load import Load


def jpeg(size: tuple[int, int] = (64, 48)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def row(input_uri: object, edited_uri: object = None) -> Row:
    edited = str(edited_uri) if edited_uri else None
    return {"id": str(input_uri), "part": "I", "input_uri": str(input_uri), "edited_uri": edited}


def load(*rows: Row, **limits: float | None) -> list[Row]:
    return Load(ImagesConfig(**limits), seed=0)(list(rows))


def saved(path: Path, size: tuple[int, int], **options: Any) -> Path:
    """A picture with a gradient, red at the left and green at the bottom."""
    width, height = size
    red = np.linspace(255, 0, width).astype(np.uint8)[None].repeat(height, 0)
    green = np.linspace(0, 255, height).astype(np.uint8)[:, None].repeat(width, 1)
    picture = PIL.Image.fromarray(np.stack([red, green, np.zeros_like(red)], axis=-1))
    picture.save(path, **options)
    return path


def opened(loaded: Row, name: str = "input_image") -> PIL.Image.Image:
    image = loaded[name]  # type: ignore[literal-required]
    assert loaded.get("stage") is None, loaded.get("detail")
    return PIL.Image.open(io.BytesIO(image["bytes"]))


def test_bytes_are_kept_untouched_with_the_file_s_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    saved(tmp_path / "b.png", (64, 48))
    (loaded,) = load(row(tmp_path / "a.jpg", tmp_path / "b.png"))
    assert loaded.get("stage") is None
    assert loaded["input_image"] == {"bytes": jpeg(), "path": "a.jpg"}
    edited = {"bytes": (tmp_path / "b.png").read_bytes(), "path": "b.png"}
    assert loaded["edited_image"] == edited


@pytest.mark.parametrize(
    ("name", "options", "name_after", "kind"),
    [
        ("a.jpg", {}, "a.jpg", "JPEG"),
        ("a.png", {}, "a.webp", "WEBP"),
        ("a.b.tiff", {}, "a.b.webp", "WEBP"),
        ("a.gif", {}, "a.webp", "WEBP"),
    ],
)
def test_a_large_picture_is_made_smaller(
    tmp_path: Path, name: str, options: dict[str, object], name_after: str, kind: str
) -> None:
    path = saved(tmp_path / name, (300, 151), **options)
    (loaded,) = load(row(path), max_side=100)
    small = opened(loaded)
    assert (small.format, small.size) == (kind, (100, 50))
    assert loaded["input_image"] is not None
    assert loaded["input_image"]["path"] == name_after
    left, right = (np.asarray(small.convert("RGB"))[0, x, 0] for x in (0, 99))
    assert left > 245
    assert right < 12
    (whole,) = load(row(path), max_side=None)
    assert whole["input_image"] == {"bytes": path.read_bytes(), "path": name}
    (fits,) = load(row(path), max_side=300)
    assert fits["input_image"] == whole["input_image"]


def test_a_picture_that_exif_turns_is_small_and_upright(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", (300, 200), exif=exif.tobytes())
    small = opened(load(row(path), max_side=90)[0])
    assert small.size == (60, 90)
    assert not small.getexif()
    assert np.asarray(small)[0, 30, 0] > 240  # what was left is on top
    assert JpegImagePlugin.get_sampling(small) == 0  # 4:4:4


def test_a_pair_is_made_smaller_alike(tmp_path: Path) -> None:
    before = saved(tmp_path / "a.jpg", (300, 200))
    after = saved(tmp_path / "b.png", (300, 200))
    (loaded,) = load(row(before, after), max_side=120)
    assert opened(loaded).size == opened(loaded, "edited_image").size == (120, 80)
    assert opened(loaded, "edited_image").format == "WEBP"


@pytest.mark.parametrize("sizes", [((200, 133), (400, 267)), ((400, 267), (200, 133))])
@pytest.mark.parametrize("max_side", [None, 1024])
def test_a_pair_of_two_scales_is_made_of_the_smaller_one(
    tmp_path: Path, sizes: tuple[tuple[int, int], ...], max_side: int | None
) -> None:
    before, after = (saved(tmp_path / f"{n}.png", size) for n, size in enumerate(sizes))
    (loaded,) = load(row(before, after), max_side=max_side)
    assert opened(loaded).size == opened(loaded, "edited_image").size == (200, 133)


@pytest.mark.parametrize(
    "sizes", [((200, 100), (100, 200)), ((1024, 858), (1152, 896)), ((64, 64), (64, 66))]
)
def test_a_pair_of_two_shapes_is_rejected(
    tmp_path: Path, sizes: tuple[tuple[int, int], ...]
) -> None:
    before, after = (saved(tmp_path / f"{n}.png", size) for n, size in enumerate(sizes))
    rejected, good = load(row(before, after), row(before, before))
    assert rejected["reason"] == "different_shapes"
    shapes = " and ".join(f"{width}x{height}" for width, height in sizes)
    assert f"{shapes} pixels" in (rejected["detail"] or "")
    assert good.get("stage") is None


def test_a_long_picture_is_rejected_and_nothing_else(tmp_path: Path) -> None:
    long, panorama = saved(tmp_path / "a.png", (2000, 40)), saved(tmp_path / "b.png", (800, 100))
    tall = saved(tmp_path / "c.png", (40, 440))
    rejected = load(row(long), row(panorama), row(tall))
    assert [each.get("reason") for each in rejected] == ["too_long", None, "too_long"]
    assert "2000x40 pixels, 50.0 to 1" in (rejected[0]["detail"] or "")


def test_a_picture_that_others_would_not_see_so_is_encoded_anew(tmp_path: Path) -> None:
    ramp = np.linspace(0, 4095, 64).astype(np.uint16)[None].repeat(40, 0)
    PIL.Image.fromarray(ramp).save(tmp_path / "deep.png")
    (loaded,) = load(row(tmp_path / "deep.png"))
    small = opened(loaded)
    assert (small.format, small.mode) == ("WEBP", "RGB")
    assert np.asarray(small)[0, -1].tolist() == [255, 255, 255]
    (own,) = load(row(tmp_path / "deep.png"), max_side=None)
    assert own["input_image"] is not None
    assert own["input_image"]["bytes"] == (tmp_path / "deep.png").read_bytes()


def test_a_bad_picture_does_not_have_its_batch_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "b.jpg").write_bytes(b"no")
    uris: list[str] = []

    def read_bytes(uri: str) -> bytes:
        uris.append(uri)
        return reading.read_bytes(uri)

    monkeypatch.setattr("reasonray.stages.load.read_bytes", read_bytes)
    load(row(tmp_path / "a.jpg"), row(tmp_path / "b.jpg"), row(tmp_path / "a.jpg"))
    assert len(uris) == 3


def test_what_is_no_pair_has_one_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (loaded,) = load(row(tmp_path / "a.jpg"))
    assert loaded["edited_image"] is None


def test_each_bad_file_is_one_rejection_that_names_it(tmp_path: Path) -> None:
    contents = {
        "truncated_image": jpeg()[:900],
        "unreadable_image": b"<html>404</html>",
        "too_small": jpeg((31, 64)),
        "too_many_pixels": jpeg((101, 100)),
        "missing_image": None,
    }
    for reason, content in contents.items():
        if content is not None:
            (tmp_path / f"{reason}.jpg").write_bytes(content)
    (tmp_path / "good.jpg").write_bytes(jpeg())
    rows = [row(tmp_path / f"{reason}.jpg") for reason in contents]
    *bad, good = load(*rows, row(tmp_path / "good.jpg"), max_pixels=10_000)
    assert good.get("stage") is None
    for reason, rejected in zip(contents, bad, strict=True):
        assert (rejected["stage"], rejected["reason"]) == ("load", reason)
        assert str(tmp_path / f"{reason}.jpg") in (rejected["detail"] or "")
        assert reason in Load.rejects


def test_a_bad_edited_image_rejects_the_pair(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (loaded,) = load(row(tmp_path / "a.jpg", tmp_path / "gone.jpg"))
    assert loaded["reason"] == "missing_image"
    assert "gone.jpg" in (loaded["detail"] or "")


def test_a_folder_in_a_file_s_place_is_a_missing_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    assert load(row(tmp_path / "a.jpg"))[0]["reason"] == "missing_image"
    assert load(row(tmp_path / "a.jpg/b.jpg"))[0]["reason"] == "missing_image"
    (tmp_path / "c.jpg").write_bytes(b"")
    assert load(row(tmp_path / "c.jpg/b.jpg"))[0]["reason"] == "missing_image"


@pytest.mark.parametrize("left", ["nothing", "an empty mount point"])
def test_a_source_that_went_away_rejects_nothing(tmp_path: Path, left: str) -> None:
    root = tmp_path / "photos"
    if left == "an empty mount point":
        root.mkdir()
    with pytest.raises(RunError, match="photos: its storage is not there any more"):
        load(row(root / "a/b.jpg") | {"root": str(root)})
    (root / "other").mkdir(parents=True)
    assert load(row(root / "a/b.jpg") | {"root": str(root)})[0]["reason"] == "missing_image"


def test_a_single_file_that_went_away_rejects_nothing(tmp_path: Path) -> None:
    root = tmp_path / "a.parquet"
    lost = row(f"{root}#0/0/original_image") | {"root": str(root)}
    with pytest.raises(RunError, match=r"a\.parquet: its storage is not there any more"):
        load(lost)
    pq.write_table(pa.table({"original_image": [None]}), root)
    assert load(lost)[0]["reason"] == "missing_image"


@pytest.mark.parametrize("code", ["ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EIO"])
def test_a_mount_that_lost_its_server_rejects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(getattr(errno, code), code)

    monkeypatch.setattr(Path, "read_bytes", fail)
    lost = row(tmp_path / "a/b.jpg")
    lost["root"] = str(tmp_path / "a")
    with pytest.raises(RunError, match="its storage is not there any more"):
        load(lost)


def test_a_bad_sector_costs_its_row_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "b.jpg").write_bytes(b"")
    monkeypatch.setattr(Path, "read_bytes", fail)
    bad = load(row(tmp_path / "b.jpg") | {"root": str(tmp_path)})[0]
    assert bad["reason"] == "unreadable_image"


def test_images_inside_parquet_files_are_loaded(tmp_path: Path) -> None:
    cells = [{"bytes": jpeg(), "path": None}, None]
    pq.write_table(pa.table({"original_image": cells}), tmp_path / "a.parquet")
    place = f"{tmp_path}/a.parquet#0"
    first, second = load(row(f"{place}/0/original_image"), row(f"{place}/1/original_image"))
    assert first["input_image"] == {"bytes": jpeg(), "path": None}
    assert second["reason"] == "missing_image"


def test_a_damaged_parquet_file_costs_its_rows_only(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "good.jpg").write_bytes(jpeg())
    bad, good = load(row(f"{tmp_path}/a.parquet#0/0/x"), row(tmp_path / "good.jpg"))
    assert bad["reason"] == "unreadable_image"
    assert "a.parquet" in (bad["detail"] or "")
    assert good.get("stage") is None


def test_a_remote_store_that_is_down_rejects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> bytes:
        raise TimeoutError("no answer")

    monkeypatch.setattr(reading, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", down)
    with pytest.raises(RunError, match=r"a\.jpg: cannot be read after 4 attempts") as caught:
        load(row("memory://store/a.jpg"))
    assert caught.value.again

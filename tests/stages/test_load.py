import errno
import io
from pathlib import Path

import fsspec
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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


def load(*rows: Row, **limits: int) -> list[Row]:
    return Load(ImagesConfig(**limits), seed=0)(list(rows))


def test_bytes_are_kept_untouched_with_the_file_s_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "b.jpg").write_bytes(jpeg((48, 64)))
    (loaded,) = load(row(tmp_path / "a.jpg", tmp_path / "b.jpg"))
    assert loaded.get("stage") is None
    assert loaded["input_image"] == {"bytes": jpeg(), "path": "a.jpg"}
    assert loaded["edited_image"] == {"bytes": jpeg((48, 64)), "path": "b.jpg"}


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

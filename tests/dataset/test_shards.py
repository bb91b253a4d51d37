import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from reasonray.core.record import IMAGE
from reasonray.core.sections import OutputConfig
from reasonray.dataset import shards
from reasonray.dataset.shards import Shards, with_image_features

SCHEMA = with_image_features(pa.schema([("id", pa.string()), ("input_image", IMAGE)]))


def written(folder: Path, sizes: list[int | None], config: OutputConfig | None = None) -> Path:
    """One shard of rows whose image has so many bytes."""
    images = [None if size is None else {"bytes": bytes(size), "path": None} for size in sizes]
    ids = [str(number) for number in range(len(sizes))]
    writer = Shards(folder / "out", SCHEMA, config or OutputConfig())
    writer.write(pa.table({"id": ids, "input_image": pa.array(images, IMAGE)}))
    writer.close()
    [path] = (folder / "out").iterdir()
    assert pq.read_table(path)["id"].to_pylist() == ids
    return path


def groups(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def test_a_row_group_has_no_more_bytes_than_the_hub_shows(tmp_path: Path) -> None:
    path = written(tmp_path, [3_000_000] * 100, OutputConfig(shard_mb=1000))
    assert groups(path) == [33, 33, 33, 1]
    metadata = pq.read_metadata(path)
    assert all(metadata.row_group(i).total_byte_size <= 101_000_000 for i in range(4))


def test_groups_end_where_the_bytes_do_and_not_by_the_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_GROUP_BYTES", 1000)
    # A row larger than the limit is alone; a rejection may have no image.
    path = written(tmp_path, [600, 300, 200, 5000, None, None, 1000, 1, 1, 1])
    assert groups(path) == [2, 1, 1, 3, 3]


def test_no_group_has_more_rows_than_the_recipe_says(tmp_path: Path) -> None:
    assert groups(written(tmp_path, [10] * 9, OutputConfig(row_group_rows=4))) == [4, 4, 1]


def test_pictures_are_stored_as_they_are_and_their_pages_can_be_found(tmp_path: Path) -> None:
    path = written(tmp_path, [300_000] * 20)
    metadata = pq.read_metadata(path)
    ids, *_, images = (metadata.row_group(0).column(i) for i in range(2))
    assert images.has_offset_index
    assert ids.has_column_index
    assert images.compression == "UNCOMPRESSED"
    assert set(images.encodings) == {"PLAIN", "RLE"}
    assert not images.is_stats_set
    assert ids.compression == "SNAPPY"
    assert "RLE_DICTIONARY" in ids.encodings


class Counted(io.FileIO):
    """A file that knows how much of it was read."""

    num_read = 0

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        content = super().read(size) or b""
        self.num_read += len(content)
        return content


def test_one_picture_of_a_row_group_can_be_read_without_the_others(tmp_path: Path) -> None:
    path = written(tmp_path, [300_000] * 100)
    with Counted(path) as file:
        opened = pq.ParquetFile(pa.PythonFile(file), buffer_size=65_536, pre_buffer=False)
        next(opened.iter_batches(batch_size=1, columns=["input_image"], use_threads=False))
        assert file.num_read < 6_000_000


def test_datasets_opens_them_with_their_images_as_such(tmp_path: Path) -> None:
    path = written(tmp_path, [10, 20])
    opened = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path))
    assert type(opened.features["input_image"]).__name__ == "Image"


def test_an_empty_output_is_a_shard_without_rows(tmp_path: Path) -> None:
    writer = Shards(tmp_path / "out", SCHEMA, OutputConfig())
    writer.close()
    assert pq.read_table(tmp_path / "out/00000.parquet").num_rows == 0

import errno
import json
import os
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from reasonray.core import reading
from reasonray.core import recipe as recipes
from reasonray.core.errors import RunError, UserError
from reasonray.core.images import decode
from reasonray.core.reading import read_bytes
from reasonray.core.record import PLAN_SCHEMA, Row, to_rows, to_table
from reasonray.sources import plan
from reasonray.sources.mini.formats import LICENSE, write_instructpix2pix, write_v3det
from reasonray.sources.mini.world import HELD_OUT_SEED, REAL, sample_scene


def recipe(*sources: dict[str, Any], **changes: Any) -> recipes.Recipe:
    content = recipes.load("mini").model_dump()
    return recipes.parse({**content, "sources": list(sources), **changes}, name="test")


def photos(folder: Path, *names: str) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return {"format": "folder", "path": str(folder)}


def rows(made: recipes.Recipe, workdir: Path) -> list[Row]:
    listed = list(plan(made, workdir, []))
    assert len({row["id"] for row in listed}) == len(listed)
    return listed


def test_pairs_feed_part_one_and_their_inputs_part_two(tmp_path: Path) -> None:
    write_instructpix2pix(tmp_path / "pairs", 2)
    source = {"format": "instructpix2pix", "path": str(tmp_path / "pairs"), "license": "mine"}
    listed = rows(recipe(source), tmp_path)
    first, second = listed[:2]
    assert [row["part"] for row in listed] == ["I", "II"] * 3
    assert first["id"] == "I/instructpix2pix/0000000/1000000/0"
    assert first["edited_uri"]
    assert first["root"] == second["root"] == str(tmp_path / "pairs")
    assert first["direct_instruction"]
    assert first["edited_caption"]
    assert second["input_uri"] == first["input_uri"]
    assert second["input_caption"] == first["input_caption"]
    assert second["edited_uri"] is second["edited_caption"] is second["direct_instruction"] is None
    assert {row["license"] for row in listed} == {"mine"}


def test_a_photo_s_own_licence_comes_before_the_recipe_s(tmp_path: Path) -> None:
    write_v3det(tmp_path / "photos", 2)
    source = {"format": "v3det", "path": str(tmp_path / "photos"), "license": "mine"}
    assert {row["license"] for row in rows(recipe(source), tmp_path)} == {LICENSE}


def test_variations_are_rows_with_ids_of_their_own(tmp_path: Path) -> None:
    listed = rows(recipe(photos(tmp_path / "a", "x.jpg", "y.jpg"), variations=3), tmp_path)
    assert [row["id"] for row in listed[:4]] == [
        "III/folder/x.jpg/0",
        "III/folder/x.jpg/1",
        "III/folder/x.jpg/2",
        "III/folder/y.jpg/0",
    ]
    assert [row["variation"] for row in listed] == [0, 1, 2, 0, 1, 2]


def test_the_limit_draws_inputs_of_all_sources_and_parts(tmp_path: Path) -> None:
    sources = [photos(tmp_path / "a", *(f"{number}.jpg" for number in range(40)))]
    sources += [photos(tmp_path / "b", *(f"{number}.jpg" for number in range(20)))]
    write_instructpix2pix(tmp_path / "pairs", 9)  # and a prompt without images
    sources += [{"format": "instructpix2pix", "path": str(tmp_path / "pairs")}]
    drawn = rows(recipe(*sources, limit=16, variations=2), tmp_path)
    counts = Counter((row["part"], row["source"][:9]) for row in drawn)
    names = sorted({row["source"][:9] for row in drawn if row["part"] == "III"})
    assert {counts["III", name] for name in names} == {2 * 8, 2 * 4}
    assert counts["I", "instructp"] == counts["II", "instructp"] == 2 * 2
    assert {row["variation"] for row in drawn} == {0, 1}
    numbers = [int(row["source_id"][:-4]) for row in drawn if row["part"] == "III"]
    assert max(numbers) > 20  # not the first
    more = rows(recipe(*sources, limit=30), tmp_path)
    assert {row["id"] for row in drawn if not row["variation"]} < {row["id"] for row in more}
    other = rows(recipe(*sources, limit=16, seed=1, variations=2), tmp_path)
    assert {row["id"] for row in drawn} != {row["id"] for row in other}
    assert len(rows(recipe(*sources, limit=1000), tmp_path)) == 60 + 20


def test_two_sources_of_one_format_never_share_an_id(tmp_path: Path) -> None:
    sources = [photos(tmp_path / "a", "x.jpg"), photos(tmp_path / "b", "x.jpg")]
    names = [row["source"] for row in rows(recipe(*sources), tmp_path)]
    assert all(name.startswith("folder-") for name in names)
    # The order of the sources does not decide about the names.
    swapped = [row["source"] for row in rows(recipe(*reversed(sources)), tmp_path)]
    assert swapped == names[::-1]
    with pytest.raises(UserError, match="listed twice"):
        rows(recipe(sources[0], sources[0]), tmp_path)


def test_splits_of_v3det_are_different_sources(tmp_path: Path) -> None:
    write_v3det(tmp_path / "v", 5)
    sources = [
        {"format": "v3det", "path": str(tmp_path / "v"), "split": s} for s in ("train", "test")
    ]
    assert {row["source"] for row in rows(recipe(*sources), tmp_path)} == {
        "v3det-train",
        "v3det-test",
    }


def test_annotated_categories_are_in_the_plan_where_the_recipe_asks(tmp_path: Path) -> None:
    write_v3det(tmp_path / "v", 5, scenery=replace(REAL, megapixels=(0.02, 0.05)))
    source = {"format": "v3det", "path": str(tmp_path / "v")}
    assert all(row["source_categories"] is None for row in rows(recipe(source), tmp_path))
    asked = rows(recipe({**source, "categories": True}), tmp_path)
    table = to_table(asked, PLAN_SCHEMA)
    for row in to_rows(table):
        seed = HELD_OUT_SEED + int(row["source_id"]) - 1
        scene = sample_scene(seed, scenery=replace(REAL, megapixels=(0.02, 0.05)))
        assert row["source_categories"] == list(dict.fromkeys(scene.categories))


def test_an_id_that_occurs_twice_in_a_source_is_the_user_s_mistake(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
    (tmp_path / "annotations/x_train.json").write_text(json.dumps({"images": images}))
    with pytest.raises(UserError, match=r"the id 1 occurs twice, again at .*b\.jpg"):
        rows(recipe({"format": "v3det", "path": str(tmp_path)}), tmp_path)


def test_nothing_to_do_is_the_user_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no source"):
        rows(recipe(), tmp_path)
    with pytest.raises(UserError, match="folder have no inputs for parts I, II"):
        rows(recipe(photos(tmp_path / "a", "x.jpg"), parts=["I", "II"]), tmp_path)


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object, path: str, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    source = photos(tmp_path / "a", "x.jpg")
    monkeypatch.setattr(LocalFileSystem, "ls", refused)  # the tests may run as root
    with pytest.raises(UserError, match=r"source folder=.*/a: this user may not read it .*/a'"):
        rows(recipe(source), tmp_path)


def test_a_mini_world_is_drawn_once_and_feeds_all_parts(tmp_path: Path) -> None:
    made = recipe({"format": "mini", "path": "4"})
    first = rows(made, tmp_path)
    # Four pairs and one without images for each of two parts, four photos.
    assert [sum(row["part"] == part for row in first) for part in ("I", "II", "III")] == [5, 5, 4]
    drawn = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg"))
    assert rows(made, tmp_path) == first
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")) == drawn
    assert {row["license"] for row in first} == {LICENSE}
    other = rows(recipe({"format": "mini", "path": "4@7"}), tmp_path)
    assert other[0]["source_id"] == "0000000/7"


def test_a_mini_world_left_half_drawn_is_drawn_again(tmp_path: Path) -> None:
    (tmp_path / "mini/4@1000000.partial/v3det").mkdir(parents=True)
    assert len(rows(recipe({"format": "mini", "path": "4"}), tmp_path)) == 14


@pytest.mark.parametrize("path", ["", "x", "0", "-3", "4@", "4@x", "4,", "4,real,", "4,real,x"])
def test_a_mini_world_is_a_count_a_seed_and_a_scenery(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match="expected COUNT"):
        rows(recipe({"format": "mini", "path": path}), tmp_path)


@pytest.mark.parametrize("path", ["4,huge", "4,real,99", "4,plain,2"])
def test_a_scenery_that_is_none_is_named_with_its_source(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match=f"source mini={path}: "):
        rows(recipe({"format": "mini", "path": path}), tmp_path)


def test_a_mini_world_of_real_scenes_has_pictures_of_all_shapes(tmp_path: Path) -> None:
    listed = rows(recipe({"format": "mini", "path": "8@5,real,0.1"}), tmp_path)
    uris = [row["input_uri"] for row in listed if row["part"] == "III"]
    sizes = {decode({"bytes": read_bytes(uri), "path": uri}).size for uri in uris if uri}
    assert len(sizes) == len(uris) == 8
    assert max(width / height for width, height in sizes) > 1.3
    assert max(width * height for width, height in sizes) < 101_000
    # Other sizes are another world.
    rows(recipe({"format": "mini", "path": "8@5,real,0.05"}), tmp_path)
    assert sum(path.is_dir() for path in (tmp_path / "mini").iterdir()) == 2


def test_a_file_name_that_is_not_utf8_is_a_row_like_any_other(tmp_path: Path) -> None:
    source = photos(tmp_path / "a", "x.jpg")
    try:
        Path(os.fsdecode(bytes(tmp_path / "a") + b"/caf\xe9.jpg")).write_bytes(b"coffee")
    except OSError:
        pytest.skip("needs a file system whose names are bytes, as Linux has")
    listed = to_rows(to_table(rows(recipe(source), tmp_path), PLAN_SCHEMA))
    assert [row["source_id"] for row in listed] == ["caf\\udce9.jpg", "x.jpg"]
    assert read_bytes(listed[0]["input_uri"]) == b"coffee"


def test_a_text_that_utf8_cannot_hold_costs_no_other_row(tmp_path: Path) -> None:
    source = photos(tmp_path / "a", "x.jpg")
    line = json.dumps({"file_name": "x.jpg", "text": "a \ud83d cat"})
    (tmp_path / "a/metadata.jsonl").write_text(line)
    (row,) = to_rows(to_table(rows(recipe(source), tmp_path), PLAN_SCHEMA))
    assert row["input_caption"] == "a \\ud83d cat"


def test_the_plan_is_written_as_it_is_read(tmp_path: Path) -> None:
    listed = rows(recipe({"format": "mini", "path": "2"}), tmp_path)
    table = to_table(listed, PLAN_SCHEMA)
    assert table.schema.equals(PLAN_SCHEMA)
    names = set(PLAN_SCHEMA.names)
    again = [{k: v for k, v in row.items() if k in names} for row in to_rows(table)]
    assert again == listed


def test_bytes_are_read_from_wherever_they_lie(tmp_path: Path) -> None:
    odd = tmp_path / "a#0 b.jpg"
    odd.write_bytes(b"1")
    assert read_bytes(str(odd)) == b"1"
    fsspec.filesystem("memory").pipe("/bytes/a.jpg", b"2")
    assert read_bytes("memory://bytes/a.jpg") == b"2"
    cells = pa.BufferOutputStream()
    pq.write_table(pa.table({"original_image": [b"3", b"4"]}), cells)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("data/x.parquet", cells.getvalue().to_pybytes())
    assert read_bytes(f"zip://data/x.parquet::{tmp_path}/p.zip#0/1/original_image") == b"4"
    with pytest.raises(FileNotFoundError):
        read_bytes("memory://bytes/gone.jpg")
    with pytest.raises(FileNotFoundError):
        read_bytes(str(tmp_path / "gone.jpg"))


def test_a_remote_store_is_asked_again_and_then_stops_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "_FIRST_WAIT_S", 0.001)
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/flaky/a.jpg", b"3")
    failures = [ConnectionResetError("reset")] * (reading.NUM_ATTEMPTS - 1)
    cat = type(filesystem).cat_file

    def flaky(self: object, path: str, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return cat(self, path, **options)

    monkeypatch.setattr(type(filesystem), "cat_file", flaky)
    assert read_bytes("memory://flaky/a.jpg") == b"3"
    failures += [ConnectionResetError("reset")] * reading.NUM_ATTEMPTS
    with pytest.raises(RunError, match=r"memory://flaky/a.jpg: cannot be read after 4 attempts"):
        read_bytes("memory://flaky/a.jpg")
    assert not failures

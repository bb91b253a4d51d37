import shutil
import uuid
import zipfile
from pathlib import Path

import fsspec
import huggingface_hub.constants
import pytest
from public_benchmarks import RISE_ROWS, parquet, risebench, write

from reasonray.core.errors import RowError, UserError
from reasonray.evaluation.benchmarks.entries import Entry, entries, unique
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.items import Item

ENTRY = Entry({}, "list.json item 1")


def pixel(files: Files, name: str) -> object:
    return files.picture(ENTRY, name).open().getpixel((0, 0))


@pytest.mark.parametrize("above", ["", "data/", "Benchmark/single/"])
def test_a_picture_is_found_below_whatever_folder_it_was_unpacked_into(
    tmp_path: Path, above: str
) -> None:
    write(tmp_path / f"{above}animal/1.png", "red")
    write(tmp_path / f"{above}style/1.png", "blue")
    assert pixel(Files.at(str(tmp_path)), "style\\1.png") == (0, 0, 255)


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_archives_need_not_be_unpacked(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "in/original_image/maze/1.png", "red")
    write(tmp_path / "in/list.json", {"a": 1})
    (tmp_path / "out").mkdir()
    shutil.make_archive(str(tmp_path / "out/original_image"), kind, tmp_path / "in")
    files = Files.at(str(tmp_path / "out"))
    assert pixel(files, "original_image/maze/1.png") == (255, 0, 0)
    assert files.read_json("list.json")[0] == {"a": 1}


def test_what_is_unpacked_goes_before_what_is_not_and_the_higher_before_the_lower(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a/x/1.png", "blue")
    write(tmp_path / "x/1.png", "red")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x/1.png", b"")
    assert pixel(Files.at(str(tmp_path)), "x/1.png") == (255, 0, 0)


def test_two_files_that_a_name_may_mean_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a/1.png", "red")
    write(tmp_path / "b/1.png", "blue")
    with pytest.raises(UserError, match=r"1\.png may be a/1\.png or b/1\.png"):
        Files.at(str(tmp_path)).picture(ENTRY, "1.png")


def test_a_name_that_leads_out_of_the_folder_is_an_error_of_its_item(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"list\.json item 1: .*leads out"):
        Files.at(str(tmp_path)).picture(ENTRY, "../secret.png")


def test_a_missing_picture_fails_alone_and_is_named(tmp_path: Path) -> None:
    missing = Files.at(str(tmp_path)).picture(ENTRY, "animal/1.png")
    with pytest.raises(RowError, match=f"{tmp_path}/animal/1.png: there is no such file"):
        missing.open()


def test_a_damaged_archive_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"data\.zip: cannot be read as an archive"):
        Files.at(str(tmp_path)).find("1.png")


def test_a_missing_list_is_named_with_what_is_there_instead(tmp_path: Path) -> None:
    write(tmp_path / "other.json", {})
    with pytest.raises(UserError, match=r"no a\.json or b\.json; found other\.json"):
        Files.at(str(tmp_path)).read_json("a.json", "b.json")


def test_a_list_that_is_no_json_is_named_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"index": }]')
    with pytest.raises(UserError, match=r"a\.json: line 1, column 12: not JSON"):
        Files.at(str(tmp_path)).read_json("a.json")


def test_a_stores_files_are_read_as_a_folders_are(tmp_path: Path) -> None:
    risebench(tmp_path)
    place = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(f"{tmp_path}/", f"{place}/", recursive=True)
    files = Files.at(place)
    assert files.read_json("datav2_total_w_subtask.json")[0] == RISE_ROWS
    assert pixel(files, "spatial_reasoning_images/1_ans.png") == (0, 0, 255)


def test_a_data_set_of_the_hub_is_taken_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub/datasets--owner--Bench"
    write(cached / "snapshots/abc/a.json", {"a": 1})
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert Files.at("owner/Bench").read_json("a.json")[0] == {"a": 1}
    with pytest.raises(UserError, match=r"benchmark owner/None: no such folder here, and the hub"):
        Files.at("owner/None")


def test_a_folder_that_is_there_is_never_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "owner/Bench/a.json", {"here": True})
    monkeypatch.chdir(tmp_path)
    assert Files.at("owner/Bench").read_json("a.json")[0] == {"here": True}


def test_rows_are_those_of_the_split_in_the_order_of_the_files(tmp_path: Path) -> None:
    for name, values in (
        ("data/test-00001-of-00002", [3]),
        ("data/test-00000-of-00002", [0, 1, 2]),
        ("data/validation-00000-of-00001", [9]),
    ):
        parquet(tmp_path / f"{name}.parquet", [{"n": value, "image": "red"} for value in values])
    rows = list(Files.at(str(tmp_path)).rows("test", {"n": False, "image": True}))
    assert [row.text("n") for row in rows] == ["0", "1", "2", "3"]
    assert [row.cell("image").open().mode for row in rows] == ["RGB"] * 4
    assert rows[2].cell("image").uri.endswith("test-00000-of-00002.parquet#1/0/image")


def test_a_file_of_no_split_counts_and_may_be_named_alone(tmp_path: Path) -> None:
    parquet(tmp_path / "mine.parquet", [{"n": 1}])
    parquet(tmp_path / "train.parquet", [{"n": 2}])
    for path in (tmp_path, tmp_path / "mine.parquet"):
        assert [row.text("n") for row in Files.at(str(path)).rows("test", {"n": False})] == ["1"]


def test_parquet_that_is_not_there_or_lacks_a_column_or_is_damaged_is_named(
    tmp_path: Path,
) -> None:
    files = Files.at(str(tmp_path))
    with pytest.raises(UserError, match=r"no test\*\.parquet; found an empty folder"):
        list(files.rows("test", {"n": False}))
    parquet(tmp_path / "test.parquet", [{"n": 1}])
    with pytest.raises(UserError, match=r"test\.parquet: no column key \(it has n\)"):
        list(Files.at(str(tmp_path)).rows("test", {"key": False}))
    (tmp_path / "test.parquet").write_bytes(b"no Parquet")
    with pytest.raises(UserError, match=r"test\.parquet: cannot be read as Parquet"):
        list(Files.at(str(tmp_path)).rows("test", {"n": False}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no prompt; expected a text"),
        ("", "no prompt; expected a text"),
        (["a"], r"prompt holds list .*; expected a text"),
        (True, "prompt holds bool 'True'; expected a text"),
        (1.5, "prompt holds float '1.5'; expected a text"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_file_and_item(value: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^list.json item 1: {message}"):
        Entry({"prompt": value}, "list.json item 1").text("prompt")


def test_numbers_pass_for_texts_and_one_text_for_a_list() -> None:
    entry = Entry({"idx": 3, "one": "a", "many": ["a", "b"], "none": [], "odd": [1]}, "x")
    assert entry.text("idx") == "3"
    assert (entry.texts("one"), entry.texts("many")) == (("a",), ("a", "b"))
    for key in ("none", "odd"):
        with pytest.raises(UserError, match="expected a text or a list of texts"):
            entry.texts(key)


def test_an_unknown_category_is_named_beside_the_known_ones() -> None:
    with pytest.raises(UserError, match="x: kind is 'c'; expected one of a, b"):
        Entry({"kind": "c"}, "x").one_of("kind", ("a", "b"))


@pytest.mark.parametrize("content", [3, "text", [1], {"a": []}])
def test_a_list_of_something_else_is_an_error(content: object) -> None:
    with pytest.raises(UserError, match=r"f\.json.*expected"):
        entries(content, "f.json")


def test_two_items_of_one_id_and_no_items_are_errors() -> None:
    item = Item("7", "", "en", (), "Draw.")
    with pytest.raises(UserError, match="f: two items are 7"):
        unique([item, item], "f")
    with pytest.raises(UserError, match="f: no items"):
        unique([], "f")

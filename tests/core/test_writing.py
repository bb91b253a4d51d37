from pathlib import Path
from typing import Any

import pytest

from reasonray.core.errors import UserError
from reasonray.core.place import Place, files, names, place
from reasonray.core.writing import filled, publish, replaced, write_file


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("sync", [True, False])
def test_what_a_library_writes_by_path_replaces_the_file_whole_or_not_at_all(
    tmp_path: Path, sync: bool
) -> None:
    path = tmp_path / "a.json"
    with replaced(path, sync=sync) as temporary:
        temporary.write_text("old")
        assert not path.exists()
    with pytest.raises(UnicodeEncodeError), replaced(path, sync=sync) as temporary:
        temporary.write_text("new \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_gets_a_file_whole_or_not_at_all(bucket: str) -> None:
    path = place(bucket) / "a.json"
    write_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\ud800")
    with pytest.raises(UnicodeEncodeError), replaced(path) as temporary:
        temporary.write_text("half \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    with replaced(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert files(place(bucket)) == [path]


@pytest.mark.parametrize("where", ["folder", "store"])
def test_a_finished_folder_takes_the_place_of_what_is_there(
    tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "a.txt").write_text("a")
    text = request.getfixturevalue("bucket") if where == "store" else str(tmp_path / "target")
    target = place(text)
    if isinstance(target, Path):
        target.mkdir()
    (target / "old.txt").write_text("old")
    publish(made, target)
    assert {path.name: path.read_text() for path in files(target)} == {"a.txt": "a"}
    assert (target / "deep/a.txt").exists()
    assert not made.exists()


@pytest.fixture(params=["folder", "store"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Of a folder that is to be filled."""
    text = request.getfixturevalue("bucket") if request.param == "store" else str(tmp_path / "out")
    return place(text) / "made"


def fill(target: Place, content: str) -> None:
    with filled(target, last="index.json") as folder:
        (folder / "deep").mkdir()
        (folder / "index.json").write_text(content)
        (folder / "deep" / "weights").write_text(content, encoding="utf-8")


def test_a_folder_is_filled_whole_or_not_at_all(target: Place) -> None:
    fill(target, "old")
    fill(target, "new")
    with pytest.raises(UnicodeEncodeError):
        fill(target, "half \ud800")
    assert [path.read_text() for path in files(target)] == ["new", "new"]
    assert names(target.parent) == ["made"]


def test_the_file_that_says_that_all_are_there_comes_last(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of large files, and where an older folder was."""
    target, order = place(bucket), list[str]()
    assert not isinstance(target, Path)
    fill(target, "old")
    for name in ("put", "put_file", "rm"):
        act = getattr(target.fs, name)

        def noted(*given: Any, act: Any = act, name: str = name, **options: Any) -> None:
            act(*given, **options)
            paths = given[-1] if isinstance(given[-1], list) else [given[-1]]
            order.extend(f"{name} {path.rpartition('/')[2]}" for path in paths)

        monkeypatch.setattr(target.fs, name, noted)
    for most, how in ((2**24, "put"), (1, "put_file")):
        monkeypatch.setattr("reasonray.core.writing._SMALL_BYTES", most)
        order.clear()
        fill(target, "new")
        assert order[0] == "rm index.json"
        assert order[-2:] == [f"{how} weights", f"{how} index.json"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used"):
        fill(tmp_path / "file" / "made", "new")

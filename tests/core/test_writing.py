from pathlib import Path

import pytest

from reasonray.core.place import files, place
from reasonray.core.writing import publish, replaced, write_file


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

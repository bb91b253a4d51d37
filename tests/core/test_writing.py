from pathlib import Path

import pytest

from reasonray.core.writing import replaced, write_file


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

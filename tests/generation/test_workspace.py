from pathlib import Path

import pytest

from reasonray.core.errors import UserError
from reasonray.core.place import place
from reasonray.core.writing import write_file
from reasonray.generation.workspace import Workspace


def test_a_place_with_something_else_in_it_is_refused(tmp_path: Path, bucket: str) -> None:
    for text in (str(tmp_path), bucket):
        write_file(place(text) / "thesis.tex", "")
        with pytest.raises(UserError, match=r"holds thesis\.tex"):
            Workspace(text)
        with pytest.raises(UserError, match="is a file"):
            Workspace(f"{text}/thesis.tex")


def test_a_run_of_an_earlier_version_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / ".run/work-000002").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"by an earlier version .* or delete .*\.run to begin anew"
    ):
        Workspace(tmp_path)


def test_what_a_run_keeps_goes_when_its_output_is_complete(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    with workspace.session():
        pass
    assert workspace.folder.exists()
    with workspace.session():
        (tmp_path / "out/manifest.json").touch()
    assert not workspace.folder.exists()

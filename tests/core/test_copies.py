"""Copies of a store's folders: fetched once, whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reasonray.core.copies import cache_folder, local
from reasonray.core.errors import RunError, UserError
from reasonray.core.place import Place, place, remove


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("REASONRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(bucket: str) -> Place:
    """On a store, of two files."""
    where = place(bucket)
    (where / "a.json").write_text("a")
    (where / "deep" / "b.bin").write_bytes(b"b")
    return where


def content(copy: Path) -> dict[str, str]:
    return {
        path.relative_to(copy).as_posix(): path.read_text()
        for path in copy.rglob("*")
        if path.is_file()
    }


def test_a_folder_of_this_machine_is_itself(tmp_path: Path, cache: Path) -> None:
    assert local(tmp_path) == tmp_path
    assert not cache.exists()


def test_a_store_s_folder_is_fetched_once_until_it_changes(
    folder: Place, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = local(folder)
    assert first.parent == cache == cache_folder()
    assert content(first) == {"a.json": "a", "deep/b.bin": "b"}
    with monkeypatch.context() as patch:
        patch.setattr("reasonray.core.copies._fetch", lambda *_: pytest.fail("fetched again"))
        assert local(folder) == first
    (folder / "a.json").write_text("A")
    assert content(local(folder))["a.json"] == "A"
    assert content(first)["a.json"] == "a"  # who has it open reads on


def test_of_a_folder_that_others_write_to_some_files_are_a_copy(folder: Place, cache: Path) -> None:
    first = local(folder, files=["a.json"])
    assert content(first) == {"a.json": "a"}
    (folder / "heart").write_text("beats")
    assert local(folder, files=["a.json"]) == first


def test_nothing_there_and_no_bucket_are_one_line(bucket: str, cache: Path) -> None:
    with pytest.raises(UserError, match=f"model {bucket}: nothing is there"):
        local(place(bucket))
    with pytest.raises(UserError, match="editor s3://no-such-bucket/editor: "):
        local(place("s3://no-such-bucket/editor"), "editor")


def test_a_copy_that_cannot_be_kept_names_the_variable(
    folder: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REASONRAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"no copy can be kept there .*; set REASONRAY_CACHE"):
        local(folder)


def test_a_full_disk_leaves_no_half_copy(
    folder: Place, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(sources: list[str], targets: list[str]) -> None:
        Path(targets[0]).write_text("half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder.fs, "get", full)  # type: ignore[union-attr]
        with pytest.raises(RunError, match=r"no space left for a copy.*REASONRAY_CACHE"):
            local(folder)
    assert not [path for path in cache.iterdir() if path.is_dir()]
    assert content(local(folder)) == {"a.json": "a", "deep/b.bin": "b"}


def test_what_a_killed_process_has_left_is_no_copy(folder: Place, cache: Path) -> None:
    code = (
        "import os, signal, sys, s3fs\n"
        "from pathlib import Path\n"
        "from reasonray.core.copies import local\n"
        "from reasonray.core.place import place\n"
        "def get(self, sources, targets):\n"
        "    Path(targets[0]).write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "s3fs.S3FileSystem.get = get\n"
        "local(place(sys.argv[1]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert killed.returncode == -9
    assert [path.read_text() for path in cache.rglob("a.json")] == ["half"]
    assert content(local(folder)) == {"a.json": "a", "deep/b.bin": "b"}
    assert [path.read_text() for path in cache.rglob("a.json")] == ["a"]


def test_processes_that_need_it_at_once_fetch_it_once(folder: Place, cache: Path) -> None:
    code = (
        "import sys\n"
        "from reasonray.core import copies\n"
        "from reasonray.core.place import place\n"
        "fetch = copies._fetch\n"
        "def told(*given):\n"
        "    print('fetched'); fetch(*given)\n"
        "copies._fetch = told\n"
        "copies.local(place(sys.argv[1]))\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, env=dict(os.environ)
        )
        for _ in range(2)
    ]
    assert sorted(process.communicate()[0] for process in both) == [b"", b"fetched\n"]
    remove(folder)

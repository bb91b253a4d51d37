import errno
import io
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import Store

from reasonray.core.errors import RunError, UserError
from reasonray.core.place import (
    Place,
    age,
    arrow,
    create,
    files,
    make_folder,
    names,
    parquet,
    place,
    reached,
    read_json,
    remove,
    versions,
    written,
)


@pytest.fixture(params=["folder", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    text = str(tmp_path / "out") if request.param == "folder" else request.getfixturevalue("bucket")
    made = place(text)
    make_folder(made)
    return made


def test_a_folder_is_absolute_from_whatever_place_and_home_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place("out") == place(Path("out")) == tmp_path / "out"
    assert place("~/out") == tmp_path / "home" / "out"
    assert place("file:///data/my%20out") == Path("/data/my out")
    assert place("./s3://x") == tmp_path / "s3:" / "x"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://host/out", "expected a folder or a URI of s3, gs, az, abfs or file, not http"),
        ("file://host/out", "three slashes"),
        ("s3://", "expected s3://BUCKET/FOLDER"),
        ("memory://out", "not memory"),
    ],
)
def test_what_is_no_place_is_refused_by_its_option_s_name(uri: str, words: str) -> None:
    with pytest.raises(UserError, match=f"--data {uri}: .*{words}"):
        place(uri, "--data")


def test_a_store_whose_package_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reasonray.core.place.find_spec", lambda name: None)
    for uri, extra in (("s3://b/o", "s3"), ("gs://b/o", "gcs"), ("az://b/o", "azure")):
        with pytest.raises(UserError, match=rf"pip install 'reasonray\[{extra}\]'"):
            place(uri)


def test_a_file_is_created_once(folder: Place) -> None:
    assert create(folder / "a.json", b"mine")
    assert not create(folder / "a.json", b"yours")
    assert (folder / "a.json").read_bytes() == b"mine"
    assert files(folder) == [folder / "a.json"]


def test_of_many_that_create_a_file_at_once_one_does(folder: Place) -> None:
    outcomes: list[bool] = []

    def attempt(number: int) -> None:
        outcomes.append(create(folder / "a.json", str(number).encode()))

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # moto itself checks and writes in two steps.
    assert outcomes.count(True) >= 1
    if isinstance(folder, Path):
        assert outcomes.count(True) == 1


def test_a_file_system_without_links_creates_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert create(tmp_path / "a", b"mine")
    assert not create(tmp_path / "a", b"yours")
    assert [path.read_bytes() for path in files(tmp_path)] == [b"mine"]


def test_age_is_by_the_clock_of_the_place_alone(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "heart").write_bytes(b"")
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert 0 <= age(folder / "heart") < 60
    if isinstance(folder, Path):
        long_ago = written(folder / "heart") - 500
        os.utime(folder / "heart", (long_ago, long_ago))
        assert 500 <= age(folder / "heart") < 560
    assert files(folder) == [folder / "heart"]
    with pytest.raises(FileNotFoundError):
        age(folder / "no heart")


def test_files_are_listed_as_they_are_now_at_any_depth(folder: Place) -> None:
    assert files(folder / "rows") == []
    paths = [folder / "rows" / name for name in ("status=a/2.parquet", "status=b/1.parquet")]
    for path in paths:
        make_folder(path.parent)
        path.write_bytes(b"")
    (folder / "rows/status=b/1.txt").write_bytes(b"")
    assert files(folder / "rows", ".parquet") == paths
    remove(paths[0])
    assert files(folder / "rows", ".parquet") == paths[1:]
    remove(folder / "rows")
    remove(folder / "rows")
    assert files(folder) == []


def test_tables_are_written_and_read_by_arrow_also_in_another_process(folder: Place) -> None:
    filesystem, path = pickle.loads(pickle.dumps(arrow(folder / "a.parquet")))
    pq.write_table(pa.table({"id": ["1", "2"], "size": [3, 4]}), path, filesystem=filesystem)
    filesystem.move(path, path.replace("a.parquet", "b.parquet"))
    assert parquet(folder / "b.parquet").read(columns=["size"])["size"].to_pylist() == [3, 4]
    assert files(folder) == [folder / "b.parquet"]


def test_only_what_is_asked_for_is_read_of_a_store(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    folder = place(bucket)
    filesystem, path = arrow(folder / "a.parquet")
    noise = [os.urandom(100_000) for _ in range(50)]
    pq.write_table(pa.table({"id": list(range(50)), "image": noise}), path, filesystem=filesystem)
    num_bytes = []
    read = s3fs.S3File._fetch_range  # noqa: SLF001

    def counted(file: object, start: int, end: int) -> bytes:
        content: bytes = read(file, start, end)
        num_bytes.append(len(content))
        return content

    monkeypatch.setattr(s3fs.S3File, "_fetch_range", counted)
    assert parquet(folder / "a.parquet").read(columns=["id"]).num_rows == 50
    assert 0 < sum(num_bytes) < 200_000


def test_no_bucket_is_ever_made(bucket: str) -> None:
    folder = place("s3://nobody-has-it/out")
    make_folder(folder)
    filesystem, path = arrow(folder / "a")
    filesystem.create_dir(path)
    words = "output s3://nobody-has-it/out: not there .*is there a bucket nobody-has-it"
    with pytest.raises(UserError, match=words), reached(folder):
        create(folder / "a", b"")
    with pytest.raises(UserError, match=words), reached(folder):
        (folder / "a").write_bytes(b"")


def test_a_store_that_is_away_for_a_while_is_waited_for(bucket: str, store: Store) -> None:
    folder = place(bucket)
    before = store.num_refused

    def come_back() -> None:
        with store.away():
            time.sleep(6)

    (folder / "a").write_bytes(b"before")
    thread = threading.Thread(target=come_back)
    thread.start()
    time.sleep(0.2)
    assert create(folder / "b", b"mine")
    assert (folder / "a").read_bytes() == b"before"
    thread.join()
    assert store.num_refused > before


@pytest.mark.parametrize("module", ["place", "reading", "copies", "session"])
def test_whoever_opens_a_store_is_as_patient(module: str) -> None:
    code = f"import reasonray.core.{module}, fsspec; print(fsspec.config.conf['s3'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "'max_attempts': 12" in done.stdout


def test_without_credentials_a_store_is_refused_in_one_line(bucket: str) -> None:
    code = (
        "import sys; from reasonray.core.place import files, place, reached\n"
        "with reached(place(sys.argv[1])): files(place(sys.argv[1]))"
    )
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    hidden |= {"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"], "HOME": "/nowhere"}
    hidden |= {"AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-c", code, bucket]
    done = subprocess.run(
        command,
        env=hidden,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("reasonray.core.errors.UserError: output s3://")
    assert "no valid credentials" in last


def test_what_a_store_says_is_told_by_whose_fault_it_is(tmp_path: Path) -> None:
    store = place("s3://bucket/out")
    with pytest.raises(UserError, match=r"not allowed .*Forbidden"), reached(store):
        raise PermissionError("Forbidden")
    with pytest.raises(RunError, match=r"the store fails .*Slow"), reached(store, "data"):
        raise OSError(5, "Slow down")
    with pytest.raises(ZeroDivisionError), reached(store):
        raise ZeroDivisionError
    with pytest.raises(PermissionError), reached(tmp_path):
        raise PermissionError


def test_a_change_of_a_file_shows_in_its_version(folder: Place) -> None:
    assert versions(folder / "none") == []
    make_folder(folder / "deep")
    for name in ("deep/b", "a"):
        (folder / name).write_bytes(b"12")
    before = versions(folder)
    assert [each[:2] for each in before] == [("a", 2), ("deep/b", 2)]
    assert versions(folder) == before
    (folder / "a").write_bytes(b"21")
    after = versions(folder)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_full_disk_of_ours_is_not_the_store_s_fault() -> None:
    with pytest.raises(OSError, match="No space"), reached(place("s3://bucket/out")):
        raise OSError(28, "No space left on device")


def test_the_empty_objects_by_which_consoles_mark_folders_are_no_files(bucket: str) -> None:
    folder = place(bucket)
    assert not isinstance(folder, Path)
    client = folder.fs
    for name in ("", "inside/"):
        client.call_s3("put_object", Bucket=client.split_path(folder.path)[0],
                       Key=f"{client.split_path(folder.path)[1]}/{name}", Body=b"")  # fmt: skip
    assert names(folder) == ["inside"]
    assert files(folder) == []
    (folder / "inside" / "a.txt").write_bytes(b"a")
    assert files(folder) == [folder / "inside" / "a.txt"]
    assert [each[0] for each in versions(folder)] == ["inside/a.txt"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_file_of_ours_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "planned.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: damaged"):
        read_json(path)


def test_half_a_file_is_not_left_where_a_file_system_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    original = Path.open

    def full(self: Path, mode: str = "r", **options: Any) -> Any:
        if mode != "xb":
            return original(self, mode, **options)
        return FullFile(self)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space"):
        create(tmp_path / "manifest.json", b"{}")
    assert list(tmp_path.iterdir()) == []


class FullFile(io.FileIO):
    """A file on a full disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x")

    def write(self, content: Any) -> int:
        """Half of it."""
        super().write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

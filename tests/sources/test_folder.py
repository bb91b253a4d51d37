import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import s3fs
from image_folders import captions, items, touch

from reasonray.core.errors import UserError
from reasonray.core.reading import file_name, read_bytes
from reasonray.core.sections import SourceConfig
from reasonray.sources.files import Folder
from reasonray.sources.folder import read


def test_all_images_below_are_found_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "sub/c.webp", "sub/deep/d.jpeg", "e f.tiff")
    touch(tmp_path, "notes.txt", ".hidden.jpg", "__MACOSX/x.jpg", ".git/y.png")
    found = items(tmp_path)
    assert [item.source_id for item in found] == [
        "a.png",
        "b.JPG",
        "e f.tiff",
        "sub/c.webp",
        "sub/deep/d.jpeg",
    ]
    assert found[-1].input_uri == str(tmp_path / "sub/deep/d.jpeg")
    assert found[0].input_caption is None


def test_linked_files_and_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/linked").symlink_to(tmp_path / "real")
    (tmp_path / "data/b.jpg").symlink_to(tmp_path / "real/a.jpg")
    assert [item.source_id for item in items(tmp_path / "data")] == ["b.jpg", "linked/a.jpg"]


def test_links_that_lead_back_are_not_followed_again(tmp_path: Path) -> None:
    touch(tmp_path, "data/a/x.jpg", "other/y.jpg")
    (tmp_path / "data/a/up").symlink_to("..")
    (tmp_path / "data/a/here").symlink_to(".")
    (tmp_path / "data/other").symlink_to(tmp_path / "other")
    (tmp_path / "other/back").symlink_to(tmp_path / "data")
    (tmp_path / "data/self").symlink_to("self")
    (tmp_path / "data/above").symlink_to(tmp_path)
    assert [item.source_id for item in items(tmp_path / "data")] == [
        "a/x.jpg",
        "above/other/y.jpg",
        "other/y.jpg",
    ]


def test_captions_are_read_as_datasets_has_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "sub/c.jpg")
    captions(
        tmp_path,
        {"file_name": "sub/c.jpg", "text": "a cat"},
        {"file_name": "./b.jpg", "caption": " a bee "},
        {"file_name": "gone.jpg", "text": "a ghost"},
        {"file_name": "a.jpg", "text": ""},
    )
    found = {item.source_id: item.input_caption for item in items(tmp_path)}
    assert found == {"a.jpg": None, "b.jpg": "a bee", "sub/c.jpg": "a cat", "gone.jpg": "a ghost"}
    assert list(found)[-1] == "gone.jpg"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1, column 2: not JSON"),
        ([{"file_name": "a.jpg"}, {"file": "b"}], "line 2: expected an object with file_name"),
        ([{"file_name": "a.jpg", "text": 3}], "line 1: the caption of a.jpg is no text: 3"),
        ([{"file_name": "a.jpg"}] * 2, "line 2: a.jpg is listed twice"),
        ([{"file_name": "../a.jpg"}], "leads out of the folder"),
    ],
)
def test_malformed_metadata_is_named_with_its_line(
    tmp_path: Path, lines: list[object], message: str
) -> None:
    touch(tmp_path, "a.jpg")
    captions(tmp_path, *lines)
    with pytest.raises(UserError, match=message):
        items(tmp_path)


def test_a_folder_without_images_says_what_was_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt")
    with pytest.raises(UserError, match=r"expected images \(.jpg.*found a.txt"):
        items(tmp_path)


def test_it_reads_from_any_fsspec_filesystem() -> None:
    fsspec.filesystem("memory").pipe({"/photos/a.jpg": b"1", "/photos/sub/b.png": b"2"})
    found = items("memory://photos")
    assert [item.source_id for item in found] == ["a.jpg", "sub/b.png"]
    assert [item.input_uri for item in found] == [
        "memory://photos/a.jpg",
        "memory://photos/sub/b.png",
    ]
    assert [read_bytes(item.input_uri) for item in found] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("before", "outer", "names"),
    [
        ("", "zip://photos", ["a.jpg", "sub/b.png"]),
        ("", "zip://photos/", ["a.jpg", "sub/b.png"]),
        ("", "zip://", ["photos/a.jpg", "photos/sub/b.png"]),
        ("simplecache::", "zip://photos", ["a.jpg", "sub/b.png"]),
    ],
)
def test_images_in_an_archive_are_listed_and_read(
    tmp_path: Path, before: str, outer: str, names: list[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("photos/a.jpg", b"1")
        archive.writestr("photos/sub/b.png", b"2")
    found = items(f"{before}{outer}::{tmp_path}/p.zip")
    assert [item.source_id for item in found] == names
    assert [read_bytes(item.input_uri) for item in found] == [b"1", b"2"]
    assert [file_name(item.input_uri) for item in found] == ["a.jpg", "b.png"]


def test_a_bare_archive_in_a_remote_store_is_its_root(tmp_path: Path) -> None:
    with (
        fsspec.open("memory://archives/p.zip", "wb") as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        archive.writestr("a.jpg", b"1")
    [item] = items("zip::memory://archives/p.zip")
    assert item.input_uri == "zip://a.jpg::memory://archives/p.zip"
    assert read_bytes(item.input_uri) == b"1"


def test_a_host_and_a_login_stay_in_the_images_uris() -> None:
    for address in ("sftp://me@host:22/photos", "hdfs://host:8020/photos/", "hdfs://host:8020"):
        folder = Folder(fsspec.filesystem("memory"), "/photos", address)
        assert folder.uri("sub/a.jpg") == f"{address.rstrip('/')}/sub/a.jpg"
    assert Folder(fsspec.filesystem("memory"), "/", "hdfs:///").uri("a.jpg") == "hdfs:///a.jpg"


def test_an_unknown_filesystem_is_the_user_s_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="nope"):
        items("nope://bucket/photos")
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(UserError, match="gcsfs"):
        items("gs://bucket/photos")


@pytest.fixture
def new_clients() -> Iterator[None]:
    """What a test does to the credentials is for its own clients of a store alone."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("new_clients")
def test_a_store_without_credentials_is_the_user_s_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(UserError, match="source s3://bucket/photos: no valid credentials"):
        items("s3://bucket/photos")


def noted(folder: Path) -> tuple[dict[str, str | None], list[str]]:
    """Each image's caption, and what is said before the start."""
    notices: list[str] = []
    source = SourceConfig(format="folder", path=str(folder))
    listed = list(read(source, notices))
    return {item.source_id: item.input_caption for item in listed}, notices


JPEG = b"\xff\xd8\xff\xe0"


def test_extensions_are_those_that_pillow_reads_and_downloads_leave(tmp_path: Path) -> None:
    pictures = ["a.jfif", "b.JPE", "c.pgm", "d.j2k", "e.tga", "f.apng", "g.jpg?w=800&v=1.5"]
    pictures += ["h.jpg_large", "i.jpg:orig", "j.HEIC", "k.jxl", "l.avif"]
    touch(tmp_path, *pictures, "m.jpeg.part", "n.jpg.zip", "o.mp4", "p.mp4", "q.5")
    (tmp_path / "bare").write_bytes(JPEG)
    (tmp_path / "LICENSE").write_bytes(b"do as you please")
    listed, [notice] = noted(tmp_path)
    assert list(listed) == sorted([*pictures, "bare"])
    assert "6 files are passed over" in notice
    for kind in ("2 .mp4", "1 .part", "1 .zip", "1 .5", "1 without"):
        assert kind in notice


@pytest.mark.parametrize(
    ("file", "listed"),
    [
        ("kitchen/a.jpg", "kitchen\\a.jpg"),
        ("kitchen\\a.jpg", "kitchen\\a.jpg"),
        ("kitchen/a.jpg", ".\\kitchen\\a.jpg"),
        ("a.jpg", "a.JPG"),
        ("Kitchen/A.JPG", "kitchen/a.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301/\uac00.jpg", "caf\u00e9/\u1100\u1161.jpg"),
        ("a.jpg", "{folder}/a.jpg"),
        ("a.dat", "a.dat"),
    ],
)
def test_names_are_understood_as_others_write_them(tmp_path: Path, file: str, listed: str) -> None:
    touch(tmp_path, file)
    captions(tmp_path, {"file_name": listed.format(folder=tmp_path), "text": "a ball"})
    assert noted(tmp_path) == ({file: "a ball"}, [])


def test_a_name_that_could_mean_two_files_means_neither(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "A.jpg")
    captions(
        tmp_path, {"file_name": "A.JPG", "text": "?"}, {"file_name": "A.jpg", "text": "a ball"}
    )
    listed, [missing, *_] = noted(tmp_path)
    assert listed == {"A.jpg": "a ball", "a.jpg": None, "A.JPG": "?"}
    assert "1 images of its metadata are not there (the first: A.JPG)" in missing


@pytest.mark.parametrize("name", ["http://host/a.jpg", "file://a.jpg", "s3://bucket/a.jpg"])
def test_a_url_is_a_rejected_row_that_says_so(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.jpg")
    captions(tmp_path, {"file_name": name, "text": "a"}, {"file_name": "a.jpg", "text": "b"})
    notices: list[str] = []
    good, bad = read(SourceConfig(format="folder", path=str(tmp_path)), notices)
    assert (good.source_id, good.reason) == ("a.jpg", None)
    assert (bad.source_id, bad.reason) == (name, "missing_image")
    assert f"line 1: {name} is a URL, and URLs are not followed" in (bad.detail or "")
    assert "1 file names of its metadata are URLs" in notices[0]

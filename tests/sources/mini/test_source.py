"""A mini world lies beside the output, on a disk or on an object store, and is drawn once."""

from pathlib import Path

import pytest

from reasonray.core.place import Place, files, place, written
from reasonray.core.reading import read_bytes
from reasonray.core.sections import SourceConfig
from reasonray.sources import instructpix2pix
from reasonray.sources.mini.source import make


@pytest.fixture(params=["folder", "store"])
def workdir(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    text = str(tmp_path / "out") if request.param == "folder" else request.getfixturevalue("bucket")
    return place(text)


def test_a_world_is_drawn_once_and_read_where_it_lies(workdir: Place) -> None:
    source = SourceConfig(format="mini", path="2@5")
    pairs, photos = make(source, workdir)
    assert pairs.path == str(workdir / "mini/2@5/instructpix2pix")
    items = list(instructpix2pix.read(pairs, []))
    assert items
    assert read_bytes(items[0].input_uri).startswith(b"\xff\xd8")
    times = {path: written(path) for path in files(workdir)}
    assert make(source, workdir) == [pairs, photos]
    assert {path: written(path) for path in files(workdir)} == times


def test_one_that_was_only_sent_in_part_is_made_whole(bucket: str) -> None:
    source = SourceConfig(format="mini", path="2@5")
    workdir = place(bucket)
    make(source, workdir)
    whole = files(workdir)
    for path in (workdir / "mini/2@5.complete", whole[-1]):
        path.unlink()
    make(source, workdir)
    assert files(workdir) == whole

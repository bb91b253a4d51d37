"""When a server that fails stops an evaluation, and when that is its rows' own failure."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from edits_service import RED, Form, Reply, Service, blue, editor_of, error

from reasonray.core.errors import RunError
from reasonray.core.place import parquet
from reasonray.evaluation.chunks import notices_of, read_chunk
from reasonray.evaluation.editing import Editing
from reasonray.evaluation.items import Benchmark, Item, Picture


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


class Asking:
    """A process of a session: it asks of a red picture for the item's name, twice if that fails.

    An item without a name has no picture.
    """

    def __init__(self, service: Service, folder: Path, session: int = 1) -> None:
        self._edit = Editing(
            editor_of(service, retries=1), "b", session=session, seed=0, timeout_s=20
        )
        self._folder = folder

    def reasons(self, number: int, *names: str) -> list[object]:
        """Why there is no picture, of each row of a chunk."""
        path = self._folder / f"{number:06}.parquet"
        RED.save(self._folder / "red.png")
        pictures = (Picture(str(self._folder / "red.png")),)
        items = [Item(name, "", "en", pictures if name else (), name) for name in names]
        self._edit(cast(Benchmark, None), items, path)
        return [row["reason"] for row in read_chunk(path, items).to_pylist()]


def failing_on(names: str, status: int = 500) -> Callable[[Form], Reply]:
    return lambda form: error(status, "overloaded") if form.fields["prompt"] in names else blue()


STOPS = r"editor b: the server fails on every edit: .*(overloaded|Connection error)"


@pytest.mark.parametrize("status", [408, 500, 503, 0])
def test_a_server_that_fails_on_one_row_alone_fails_that_row(
    tmp_path: Path, service: Service, status: int
) -> None:
    service.answer = failing_on("bcdef", status)
    process = Asking(service, tmp_path)
    assert process.reasons(0, "a", "g", "b") == [None, None, "server_failed"]
    # Of one or two that fail, after others have gone well, it is not known that all would.
    assert process.reasons(1, "b") == ["server_failed"]
    assert process.reasons(2, "b", "c") == ["server_failed"] * 2
    with pytest.raises(RunError, match=STOPS):
        process.reasons(3, "d", "e", "f")
    assert not (tmp_path / "000003.parquet").exists()


@pytest.mark.parametrize("names", ["b", "bc", "bcd"])
def test_a_server_on_which_nothing_has_gone_well_stops_it(
    tmp_path: Path, service: Service, names: str
) -> None:
    service.answer = failing_on(names)
    with pytest.raises(RunError, match=r"editor b: .*overloaded"):
        Asking(service, tmp_path).reasons(0, *names)
    assert not (tmp_path / "000000.parquet").exists()


def test_a_row_that_was_not_sent_does_not_speak_for_the_server(
    tmp_path: Path, service: Service
) -> None:
    service.answer = failing_on("b")
    with pytest.raises(RunError, match=STOPS):
        Asking(service, tmp_path).reasons(0, "", "b")
    assert Asking(service, tmp_path).reasons(1, "") == ["missing_image"]


def test_what_another_process_has_edited_speaks_for_the_server(
    tmp_path: Path, service: Service
) -> None:
    service.answer = failing_on("bcde")
    assert Asking(service, tmp_path).reasons(0, "a", "b") == [None, "server_failed"]
    assert Asking(service, tmp_path).reasons(1, "b") == ["server_failed"]
    with pytest.raises(RunError, match=STOPS):
        Asking(service, tmp_path).reasons(2, "c", "d", "e")


def test_what_a_server_fails_on_in_the_next_session_too_counts(
    tmp_path: Path, service: Service
) -> None:
    service.answer = failing_on("bcd")
    for _ in range(2):  # processes of one session
        with pytest.raises(RunError, match=STOPS):
            Asking(service, tmp_path, session=1).reasons(0, "b")
    later = Asking(service, tmp_path, session=2)
    assert later.reasons(0, "b") == ["server_failed"]
    assert later.reasons(1, "c", "d") == ["server_failed"] * 2
    # Once something has gone well a server that fails on all is one that is away again.
    assert later.reasons(2, "a") == [None]
    with pytest.raises(RunError, match=STOPS):
        Asking(service, tmp_path, session=3).reasons(3, "b", "c", "d")


def test_what_a_server_does_not_take_stands_in_the_file(tmp_path: Path, service: Service) -> None:
    service.answer = lambda form: (
        error(400, "Unknown parameter: 'seed'.", param="seed") if "seed" in form.fields else blue()
    )
    process = Asking(service, tmp_path)
    for number in range(2):
        assert process.reasons(number, "a") == [None]
        table = parquet(tmp_path / f"{number:06}.parquet").read()
        assert notices_of(table) == ["requests are taken without seed"]


def test_a_server_that_refuses_all_alike_stops_before_that_counts(
    tmp_path: Path, service: Service
) -> None:
    service.answer = lambda form: error(400, "Unknown parameter: 'quality'.")
    with pytest.raises(RunError, match=r"3 rows failed alike.*Unknown parameter: 'quality'"):
        Asking(service, tmp_path).reasons(0, "a", "b", "c")
    assert not (tmp_path / "000000.parquet").exists()

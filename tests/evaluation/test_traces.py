"""What was begun of a chunk, as the next process and the next session see it."""

from pathlib import Path

from reasonray.evaluation.traces import MAX_ENDS, Traces


def test_what_was_begun_is_counted_by_session(tmp_path: Path) -> None:
    path = tmp_path / "000000.parquet"
    for session in (1, 1, 2):
        Traces(path, session).begin("a")
        Traces(path, session).begin_whole()
    sessions = [Traces(path, session) for session in (1, 2, 3)]
    assert [each.num_begun("a") for each in sessions] == [MAX_ENDS, 1, 0]
    assert [each.num_begun_whole() for each in sessions] == [MAX_ENDS, 1, 0]
    assert [each.num_begun("b") for each in sessions] == [0, 0, 0]


def test_a_stop_is_one_of_another_session_until_something_goes_well(tmp_path: Path) -> None:
    path = tmp_path / "000000.parquet"
    assert not Traces(path, 1).has_stopped_another()
    Traces(path, 1).set_stopped()
    assert not Traces(path, 1).has_stopped_another()
    assert Traces(path, 2).has_stopped_another()
    assert Traces(path, 11).has_stopped_another()
    assert Traces(tmp_path / "000004.parquet", 2).has_stopped_another()
    Traces(path, 2).clear()
    assert Traces(path, 2).has_stopped_another()
    Traces(path, 2).forget_stops()
    assert not Traces(path, 3).has_stopped_another()

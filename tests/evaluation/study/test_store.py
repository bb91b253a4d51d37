import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from studies import by_question, choose, study

from reasonray.core.errors import UserError
from reasonray.evaluation.study.store import NoSuchChoiceError, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return study(tmp_path)


def log(store: Store) -> list[tuple[int, int, str]]:
    with store._opened() as database:  # noqa: SLF001
        return database.execute("SELECT worker, task, picture FROM answers").fetchall()


def test_a_token_is_one_workers(store: Store) -> None:
    first, second = store.workers()
    assert (store.worker(first.token), store.worker(second.token)) == (1, 2)
    for token in ("", first.token[:-1], f"{first.token} ", "' OR 1=1 --", "\udc80", "%"):
        with contextlib.suppress(UnicodeEncodeError):
            assert store.worker(token) is None


def test_the_last_answer_counts_and_the_others_stay(store: Store) -> None:
    for editor in ("ours", "rival", "rival", "baseline"):
        choose(store, 1, 2, editor)
    choose(store, 2, 2, "ours")
    task = store.tasks(1)[1]
    assert len(log(store)) == 5
    assert task.answer == log(store)[3][2]
    assert sorted(by_question(store.picks()).values()) == ["baseline", "ours"]
    assert store.num_replaced() == 3
    assert [worker.num_answered for worker in store.workers()] == [1, 1]


def test_answers_are_only_added(store: Store) -> None:
    choose(store, 1, 1, "ours")
    for statement in ("DELETE FROM answers", "UPDATE answers SET task = 2"):
        with store._opened() as database, pytest.raises(sqlite3.IntegrityError, match="only added"):  # noqa: SLF001
            database.execute(statement)


def test_only_what_was_shown_can_be_chosen(store: Store) -> None:
    first, second = store.tasks(1)[:2]
    others = store.tasks(2)[0].candidates[0]
    for task, file in [
        (1, second.candidates[0]),
        (1, first.before),
        (1, others),
        (0, first.candidates[0]),
        (99, first.candidates[0]),
        (1, "../study.db"),
        (1, ""),
    ]:
        with pytest.raises(NoSuchChoiceError):
            store.answer(1, task, file)
    assert log(store) == []
    assert store.may_see(1, first.before)
    assert store.may_see(1, first.candidates[2])
    assert not store.may_see(1, others)
    assert not store.may_see(1, "../study.db")


def test_a_commit_waits_for_the_disk(store: Store) -> None:
    with store._opened() as database:  # noqa: SLF001
        [journal] = database.execute("PRAGMA journal_mode").fetchone()
        [synchronous] = database.execute("PRAGMA synchronous").fetchone()
    assert (journal, synchronous) == ("wal", 2)  # 2: FULL


def test_two_processes_worth_of_threads_lose_nothing(store: Store) -> None:
    def vote(worker: int) -> None:
        own = Store(store.pictures.parent)
        for editor in ("ours", "rival", "baseline"):
            for task in own.tasks(worker):
                choose(own, worker, task.task, editor)

    threads = [threading.Thread(target=vote, args=(worker,)) for worker in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log(store)) == 2 * 3 * 4
    assert set(by_question(store.picks()).values()) == {"baseline"}
    assert len(store.picks()) == 8


def test_what_is_no_study_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study is there; `reasonray study create"):
        Store(tmp_path)
    (tmp_path / "study.db").write_bytes(b"no database at all, though long enough to be read" * 99)
    with pytest.raises(UserError, match="cannot be opened"):
        Store(tmp_path)
    (tmp_path / "study.db").unlink()
    sqlite3.connect(tmp_path / "study.db").execute("CREATE TABLE a (b)").connection.close()
    with pytest.raises(UserError, match="is no study's database"):
        Store(tmp_path)

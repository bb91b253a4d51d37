import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reasonray.core import session as sessions
from reasonray.core.errors import RunError, UserError
from reasonray.core.place import Place, create, files, make_folder, place, remove
from reasonray.core.session import session


@pytest.fixture(params=["folder", "store"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    text = str(tmp_path / "out") if request.param == "folder" else request.getfixturevalue("bucket")
    return place(text)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of a test, not of a cluster; a store's clock has whole seconds."""
    monkeypatch.setattr(sessions, "STALE_S", 3.0)
    monkeypatch.setattr(sessions, "BEAT_S", 0.2)
    monkeypatch.setattr(sessions, "_LOOK_EVERY_S", 0.2)


def begun_elsewhere(output: Place, number: int = 1, **changes: str) -> None:
    """What the session of a process on another machine looks like."""
    holder = {"host": "elsewhere", "boot": "b", "namespace": "n", "started": "1", "since": "noon"}
    content = {**holder, "pid": os.getpid(), **changes}
    for name in ("sessions", "hearts"):
        make_folder(output / ".run" / name)
    (output / f".run/hearts/{number:06}").write_bytes(b"")
    assert create(output / f".run/sessions/{number:06}.json", json.dumps(content).encode())


def test_a_second_holder_is_told_who_is_first(output: Place) -> None:
    with (
        session(output / ".run", output) as first,
        pytest.raises(
            UserError, match=rf"another run .*process {os.getpid()} on {socket.gethostname()}"
        ),
        session(output / ".run", output),
    ):
        pass
    first.check()
    with session(output / ".run", output) as second:
        assert (first.number, second.number) == (1, 2)


def test_of_many_that_begin_at_once_one_does(tmp_path: Path) -> None:
    both, outcomes = threading.Barrier(4), list[str]()

    def attempt() -> None:
        both.wait()
        try:
            with session(tmp_path / ".run", tmp_path):
                outcomes.append("began")
                both.wait()
        except UserError:
            outcomes.append("refused")
            both.wait()

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["began", "refused", "refused", "refused"]


def test_a_killed_process_of_this_machine_is_followed_at_once(output: Place) -> None:
    code = (
        "import os, signal, sys; from reasonray.core.place import place\n"
        "from reasonray.core.session import session\n"
        "output = place(sys.argv[1])\n"
        "with session(output / '.run', output): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(output)])
    # Its parent has not asked for it yet: only its number is left.
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    assert files(output / ".run/hearts")
    start = time.monotonic()
    with session(output / ".run", output) as second:
        assert second.number == 2
    assert time.monotonic() - start < 10
    assert killed.wait() == -9


def test_a_process_that_has_the_number_of_a_dead_one_is_another(tmp_path: Path) -> None:
    begun_elsewhere(tmp_path, 1, **sessions._here())  # noqa: SLF001
    with session(tmp_path / ".run", tmp_path) as second:
        assert second.number == 2


def test_one_that_has_just_died_on_another_machine_is_waited_out(
    output: Place, patience: None, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_elsewhere(output)
    start = time.monotonic()
    with session(output / ".run", output) as second:
        assert second.number == 2
    assert 1 < time.monotonic() - start < 30
    assert "process" in (line := capsys.readouterr().err)
    assert "on elsewhere, since noon wrote here" in line


@pytest.mark.parametrize("skew_s", [-600, 0, 600])
def test_one_that_is_alive_on_another_machine_is_refused_whatever_our_clock_says(
    output: Place, patience: None, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew_s)
    begun_elsewhere(output)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.3):
            (output / ".run/hearts/000001").write_bytes(b"")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with (
            pytest.raises(UserError, match=r"another run is writing here .*on elsewhere"),
            session(output / ".run", output),
        ):
            pass
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("skew_s", [-600, 600])
def test_one_that_died_long_ago_is_followed_at_once_whatever_our_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    begun_elsewhere(tmp_path)
    long_ago = time.time() - sessions.STALE_S - 1
    os.utime(tmp_path / ".run/hearts/000001", (long_ago, long_ago))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew_s)
    start = time.monotonic()
    with session(tmp_path / ".run", tmp_path):
        assert time.monotonic() - start < 5


def test_one_that_has_ended_on_another_machine_is_followed_at_once(output: Place) -> None:
    begun_elsewhere(output)
    remove(output / ".run/hearts/000001")
    with session(output / ".run", output) as second:
        assert second.number == 2


def test_one_that_was_taken_for_dead_finds_that_it_is_not_the_last(output: Place) -> None:
    with session(output / ".run", output) as first:
        begun_elsewhere(output, number=2)
        with pytest.raises(RunError, match=r"another run \(process .* elsewhere.* has taken over"):
            first.check()
        remove(output / ".run")  # as whoever publishes does at the end
        with pytest.raises(RunError, match="another run has taken over"):
            first.check()


def test_a_heart_beats_while_its_session_lives(output: Place, patience: None) -> None:
    with session(output / ".run", output):
        heart = output / ".run/hearts/000001"
        remove(heart)
        deadline = time.monotonic() + 20
        while not heart.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not heart.exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot be used .Not a directory.; give a folder that"),
        session(tmp_path / "file/.run", tmp_path / "file"),
    ):
        pass

"""The service as a process: killed at any moment, it has every answer that it acknowledged."""

import contextlib
import random
import threading
import time
from pathlib import Path

import httpx
import pytest
from served_study import served
from studies import study

pytestmark = pytest.mark.slow


def test_a_killed_server_has_every_answer_that_it_acknowledged(tmp_path: Path) -> None:
    store = study(tmp_path, num_items=4, num_workers=2, quota=4)
    acknowledged: dict[int, list[tuple[int, str]]] = {1: [], 2: []}
    is_over = threading.Event()

    def vote(worker: int, link: str) -> None:
        draw = random.Random(worker)
        tasks = store.tasks(worker)
        with httpx.Client(timeout=20) as client:
            while not is_over.is_set():
                task = draw.choice(tasks)
                picture = draw.choice(task.candidates)
                with contextlib.suppress(httpx.TransportError):
                    body = {"task": task.task, "picture": picture}
                    if client.post(f"{link}answers", json=body).status_code == 200:
                        acknowledged[worker].append((task.task, picture))
                        continue
                time.sleep(0.02)

    with served(tmp_path / "study") as service:
        voters = [
            threading.Thread(target=vote, args=(worker, link))
            for worker, link in enumerate(service.links, start=1)
        ]
        for voter in voters:
            voter.start()
        for pause in (0.3, 0.13):
            numbers = [len(each) for each in acknowledged.values()]
            while min(len(acknowledged[w]) - numbers[w - 1] for w in (1, 2)) < 5:
                time.sleep(0.01)
            time.sleep(pause)
            service.kill()
            service.start()
        is_over.set()
        for voter in voters:
            voter.join(60)
        assert service.stop() == 0
    with store._opened() as database:  # noqa: SLF001
        for worker, answers in acknowledged.items():
            stored = database.execute(
                "SELECT task, picture FROM answers WHERE worker = ? ORDER BY answer", (worker,)
            ).fetchall()
            # An answer of which nobody was told may be there, too; each kill can leave one.
            assert len(stored) - len(answers) <= 2
            rest = iter(stored)
            assert all(answer in rest for answer in answers)


def test_links_begin_as_one_says_and_a_taken_port_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reasonray.cli.main import call

    store = study(tmp_path)
    capsys.readouterr()
    with served(tmp_path / "study") as service:
        port = service.links[0].split(":")[2].partition("/")[0]
        tokens = [worker.token for worker in store.workers()]
        assert service.links == [f"http://127.0.0.1:{port}/{token}/" for token in tokens]
        assert call(["study", "serve", str(tmp_path / "study"), "--port", port]) == 2
        error = capsys.readouterr().err
        assert f"--port {port}: Address already in use; give another --port" in error
        assert error.count("\n") == 1

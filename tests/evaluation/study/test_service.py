import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_server import serving
from studies import EDITORS, editor_of, study

from reasonray.evaluation.study.service import make_app
from reasonray.evaluation.study.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return study(tmp_path)


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    with serving(make_app(store)) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as it:
        yield it


@pytest.fixture
def token(store: Store) -> str:
    return store.workers()[0].token


def test_an_answer_is_stored_and_shown_after_a_reload(
    client: httpx.Client, store: Store, token: str
) -> None:
    tasks = client.get(f"/{token}/questions").json()
    assert [each["task"] for each in tasks] == [1, 2, 3, 4]
    assert {each["answer"] for each in tasks} == {None}
    for place in (0, 2, 2):
        body = {"task": 3, "picture": tasks[2]["candidates"][place]}
        answer = client.post(f"/{token}/answers", json=body)
        assert (answer.status_code, answer.json()) == (200, body)
    again = client.get(f"/{token}/questions").json()
    assert again[2].pop("answer") == tasks[2]["candidates"][2]
    del tasks[2]["answer"]
    assert again == tasks
    [pick] = store.picks()
    assert pick.editor == editor_of(store, tasks[2]["candidates"][2])


def test_without_a_token_there_is_nothing(client: httpx.Client, store: Store, token: str) -> None:
    [file] = client.get(f"/{token}/questions").json()[0]["candidates"][:1]
    other = store.workers()[1].token
    assert client.get(f"/{token}/pictures/{file}").status_code == 200
    for address in (
        "/",
        "/wrong/",
        f"/{token[:-1]}/",
        f"/{token}x/",
        f"/{token}/study.db",
        f"/{token}/pictures/..%2Fstudy.db",
        f"/{token}/pictures/",
        "/wrong/questions",
        f"/wrong/pictures/{file}",
        f"/{other}/pictures/{file}",
        f"/pictures/{file}",
        "/index.html",
        "/service.py",
        "/%00/",
        "/%F0%9F%90%9D/questions",
    ):
        answer = client.get(address)
        assert answer.status_code == 404, address
        assert "Traceback" not in answer.text
    assert "link is none of the study's" in client.get("/wrong/").text
    body = {"task": 1, "picture": file}
    assert client.post("/wrong/answers", json=body).status_code == 404
    assert client.post(f"/{other}/answers", json=body).status_code == 400
    assert store.picks() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1, 2]", 400),
        (b'{"task": "1", "picture": "a"}', 400),
        (b'{"task": true, "picture": "a"}', 400),
        (b'{"task": 1, "picture": null}', 400),
        (b'{"task": 1, "picture": "a"}', 400),
        (b'{"task": 99999999999999999999999, "picture": "a"}', 400),
        (b'{"task": 1, "picture": "\\ud800"}', 400),
        (b"[" * 1999, 400),
        (b" " * 3000, 413),
    ],
)
def test_what_is_no_answer_is_refused(
    body: bytes, status: int, client: httpx.Client, store: Store, token: str
) -> None:
    answer = client.post(f"/{token}/answers", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert store.picks() == []


def test_a_link_without_its_slash_leads_to_the_page(client: httpx.Client, token: str) -> None:
    answer = client.get(f"/{token}")
    assert answer.headers["location"] == f"{token}/"
    page = client.get(f"/{token}/")
    assert page.status_code == 200
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(f"/{token}/{address}").status_code == 200, address


def test_nothing_that_a_worker_gets_tells_an_editor(
    client: httpx.Client, store: Store, token: str
) -> None:
    tasks = client.get(f"/{token}/questions").json()
    files = [file for task in tasks for file in (task["before"], *task["candidates"])]
    answers = [
        client.get(f"/{token}/"),
        client.get("/page.js"),
        client.get(f"/{token}/questions"),
        *(client.get(f"/{token}/pictures/{file}") for file in files),
    ]
    for answer in answers:
        whole = repr(answer.headers).encode() + answer.content
        assert not [name for name in (*EDITORS, "direct__", "group") if name.encode() in whole]
        # A picture's time would tell in which order they were made.
        assert not {"last-modified", "etag"} & set(answer.headers)
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert set(tasks[0]) == {"task", "instruction", "before", "candidates", "answer"}


def test_a_database_that_fails_is_a_503_to_try_again(
    client: httpx.Client, store: Store, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = client.get(f"/{token}/questions").json()[0]["candidates"][:1]

    def fail(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "answer", fail)
    answer = client.post(f"/{token}/answers", json={"task": 1, "picture": file})
    assert answer.status_code == 503
    assert "try again" in answer.json()["error"]

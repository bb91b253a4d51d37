"""The guard around small applications, behind a real HTTP server."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from local_server import raw, serving
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from reasonray.serving.guard import STRIPPED, Guard

released = threading.Event()
HEAD = b"POST /body HTTP/1.1\r\nHost: x\r\n"


async def body(request: Request) -> Response:
    return JSONResponse({"size": len(await request.body()), "headers": dict(request.headers)})


async def early(request: Request) -> Response:
    return JSONResponse({"error": "no key"}, 401)


async def slow(request: Request) -> Response:
    await request.body()
    while not released.is_set():
        await asyncio.sleep(0.01)
    return JSONResponse({})


async def plain(request: Request) -> Response:
    status = int(request.path_params["status"])
    return PlainTextResponse("Serve's words", status, {"Retry-After": "7"} if status == 503 else {})


async def stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        await asyncio.sleep(0.05)
        yield b"two"

    return StreamingResponse(pieces(), media_type="text/event-stream")


class Toy:
    """Routes, and two that behave as Serve's proxy does when an ingress process has died."""

    def __init__(self) -> None:
        routes = [("/body", body), ("/early", early), ("/slow", slow), ("/stream", stream)]
        self.app = Starlette(
            routes=[Route(path, f, methods=["GET", "POST"]) for path, f in routes]
            + [Route("/plain/{status}", plain)]
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/silent":
            return
        if scope.get("path") == "/raises":
            raise RuntimeError("secret")
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            return


@contextmanager
def guarded(**limits: Any) -> Iterator[tuple[Guard, int]]:
    guard = Guard(Toy(), **limits)
    with serving(guard) as port:
        yield guard, port


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with guarded(max_body=100_000, chunk_s=0.5, body_s=1.5) as (_, port):
        yield port


def error(answer: bytes, status: int) -> dict[str, Any]:
    """The error object of a raw answer, which is in JSON and bears the request's id."""
    head, _, content = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0].startswith(f"http/1.1 {status} "), answer[:200]
    assert "content-type: application/json" in lines
    assert any(line.startswith("x-request-id: ") for line in lines)
    inner: dict[str, Any] = json.loads(content)["error"]
    assert set(inner) == {"message", "type", "param", "code"}
    return inner


def test_a_body_passes_whole_and_changes_nothing(port: int) -> None:
    url = f"http://127.0.0.1:{port}/body"
    for content in (b"", b"x" * 100_000):
        assert httpx.post(url, content=content).json()["size"] == len(content)

    def pieces() -> Iterator[bytes]:
        yield from [b"x" * 1000] * 100

    assert httpx.post(url, content=pieces()).json()["size"] == 100_000
    answer = httpx.get(f"http://127.0.0.1:{port}/stream")
    assert (answer.text, answer.headers["content-type"]) == (
        "one two",
        "text/event-stream; charset=utf-8",
    )


def test_a_length_that_is_too_large_is_refused_before_the_body(port: int) -> None:
    answer = raw(port, HEAD + b"Content-Length: 100001\r\n\r\n")
    assert error(answer, 413)["code"] == "request_too_large"
    assert b"connection: close" in answer.lower()


def test_a_body_without_a_length_is_counted(port: int) -> None:
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    answer = raw(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 20)
    assert error(answer, 413)["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("pieces", "pause"),
    [
        ([HEAD + b"Content-Length: 10\r\n\r\n"], 0),
        ([HEAD + b"Content-Length: 10\r\n\r\n", b"12345"], 0),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\n12345\r\n"], 0),
        ([HEAD + b"Content-Length: 100\r\n\r\n", *[b"1"] * 20], 0.2),
    ],
)
def test_a_body_that_does_not_come_is_cut_off(port: int, pieces: list[bytes], pause: float) -> None:
    begin = time.monotonic()
    answer = raw(port, *pieces, pause=pause)
    assert error(answer, 408)["code"] == "request_timeout"
    assert b"connection: close" in answer.lower()
    assert time.monotonic() - begin < 10


def test_an_answer_before_the_body_reaches_the_client(port: int) -> None:
    answer = raw(port, b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"no key" in answer


def test_uploads_that_are_held_have_a_budget_together() -> None:
    with (
        guarded(max_body=1000, budget=2000, chunk_s=5) as (guard, port),
        ThreadPoolExecutor() as pool,
    ):
        url = f"http://127.0.0.1:{port}/slow"
        running = [pool.submit(httpx.post, url, content=b"x" * 900) for _ in range(2)]
        while guard.held < 1800:
            time.sleep(0.01)
        refused = httpx.post(url, content=b"x" * 900)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert refused.json()["error"]["code"] == "server_busy"

        def pieces() -> Iterator[bytes]:
            yield from [b"x" * 100] * 9

        assert httpx.post(url, content=pieces()).status_code == 429
        assert httpx.post(f"http://127.0.0.1:{port}/body", content=b"x" * 100).status_code == 200
        released.set()
        assert [each.result().status_code for each in running] == [200, 200]
        assert guard.held == 0


def test_the_budget_is_free_again_whatever_became_of_a_body() -> None:
    with guarded(max_body=1000, chunk_s=0.1) as (guard, port):
        raw(port, HEAD + b"Content-Length: 900\r\n\r\nx", timeout=0.02)  # the client leaves
        raw(port, HEAD + b"Content-Length: 900\r\n\r\nx")  # it is silent
        raw(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"500\r\n" + b"x" * 0x500)
        raw(port, b"POST /raises HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", timeout=1)
        for _ in range(100):
            time.sleep(0.02)
            if not guard.held:
                break
        assert guard.held == 0


def test_a_hundred_silent_bodies_keep_nobody_waiting() -> None:
    silent = HEAD + b"Content-Length: 10\r\n\r\n"
    with (
        guarded(chunk_s=4.0) as (_, port),
        ThreadPoolExecutor(101) as pool,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        answers = [pool.submit(raw, port, silent) for _ in range(101)]
        assert client.post("/body", content=b"x").json()["size"] == 1
        assert not any(each.done() for each in answers)
        assert {error(each.result(), 408)["code"] for each in answers} == {"request_timeout"}


def test_headers_that_change_serve_s_behaviour_do_not_reach_it(port: int) -> None:
    sent = {name.decode(): "1" for name in STRIPPED}
    sent |= {name.decode().title(): "1" for name in STRIPPED} | {"X-Kept": "1"}
    seen = httpx.get(f"http://127.0.0.1:{port}/body", headers=sent).json()["headers"]
    assert {*seen} & {name.decode() for name in STRIPPED} == set()
    assert seen["x-kept"] == "1"


@pytest.mark.parametrize(
    ("status", "becomes", "code", "headers"),
    [
        (404, 404, "not_found", {}),
        (408, 504, "timeout", {"x-should-retry": "false"}),
        (429, 429, "server_busy", {"retry-after": "2"}),
        (500, 503, "replica_lost", {"retry-after": "1"}),
        (503, 503, "starting", {"retry-after": "7"}),
    ],
)
def test_serve_s_own_answers_become_json(
    port: int, status: int, becomes: int, code: str, headers: dict[str, str]
) -> None:
    answer = httpx.get(f"http://127.0.0.1:{port}/plain/{status}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (becomes, code)
    assert headers.items() <= dict(answer.headers).items()
    assert httpx.get(f"http://127.0.0.1:{port}/plain/200").text == "Serve's words"


@pytest.mark.parametrize("path", ["silent", "raises"])
def test_the_death_of_the_ingress_is_told(port: int, path: str) -> None:
    answer = httpx.get(f"http://127.0.0.1:{port}/{path}", headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "replica_lost")
    assert (answer.headers["retry-after"], answer.headers["x-request-id"]) == ("1", "mine")
    assert "secret" not in answer.text


def test_what_is_not_http_passes() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Callable, send: Callable) -> None:
        seen.append(scope["type"])

    asyncio.run(Guard(app)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]

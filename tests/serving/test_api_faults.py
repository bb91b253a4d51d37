"""The API with editors that fail, and clients that leave."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import openai
import pytest
from bad_requests import URL
from form_parts import multipart, picture
from local_editors import api

from reasonray.serving.api import make_app
from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.errors import ApiError
from reasonray.serving.keys import Doorkeeper
from reasonray.serving.task import EditTask, Event, Facts, PartialFile

PROMPT = "Show what it makes instead."
CONFIG = ServingConfig(models={"tiny": ServedModel(editor="/not/read")}, anonymous=True)


class Failing:
    """Editors that fail: at once, or after a partial picture."""

    names = ("at once", "later", "bug", "late bug")

    async def facts(self, name: str) -> Facts:
        return Facts(32, 8, 4, 2.0, 1.5, 0)

    async def ready(self) -> bool:
        return False

    async def edit(self, name: str, task: EditTask) -> AsyncGenerator[Event, None]:
        if name.startswith("late"):
            yield PartialFile(0, b"a picture")
        if "bug" in name:
            raise ValueError("a secret")
        raise ApiError(503, "replica_lost", "It was lost.", headers={"Retry-After": "1"})


@contextlib.contextmanager
def failing() -> Iterator[openai.OpenAI]:
    with (
        api(Failing(), CONFIG) as port,
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0
        ) as client,
    ):
        yield client


def test_an_error_before_the_stream_s_first_event_has_its_status() -> None:
    options: Any = {"image": picture(), "prompt": PROMPT, "stream": True, "partial_images": 1}
    with failing() as client:
        with pytest.raises(openai.InternalServerError) as lost:
            client.images.edit(**options, model="at once")
        assert (lost.value.status_code, lost.value.code) == (503, "replica_lost")
        events = iter(client.images.edit(**options, model="later"))
        assert next(events).type == "image_edit.partial_image"
        with pytest.raises(openai.APIError, match="It was lost"):
            next(events)
        assert httpx.get(f"{client.base_url}../readyz").status_code == 503


def test_a_bug_is_told_without_a_word_of_it() -> None:
    options: Any = {"image": picture(), "prompt": PROMPT}
    with failing() as client:
        with pytest.raises(openai.InternalServerError) as bug:
            client.images.edit(**options, model="bug", n=3)
        assert (bug.value.code, bug.value.type) == ("internal_error", "server_error")
        assert "secret" not in json.dumps(bug.value.body)
        events = iter(
            client.images.edit(**options, model="late bug", stream=True, partial_images=1)
        )
        next(events)
        with pytest.raises(openai.APIError, match="failed on this request"):
            next(events)


class Endless(Failing):
    """An editor whose pictures never end; `left` once nobody asks for more."""

    left = False

    async def edit(self, name: str, task: EditTask) -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield PartialFile(0, b"a picture")
        finally:
            self.left = True


def test_a_client_who_leaves_while_a_piece_is_on_its_way_is_noticed() -> None:
    editors = Endless()
    app = make_app(editors, Doorkeeper(None), CONFIG)
    headers, body = multipart(
        [("image", ("a.png", picture(), "image/png"))], {"prompt": "x", "stream": "true"}
    )
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "POST",
        "path": URL, "raw_path": URL.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def work() -> None:
        full = asyncio.Event()
        messages = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await full.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                full.set()
                await asyncio.Event().wait()  # the client reads no more

        await app(scope, receive, send)
        await asyncio.sleep(0.1)
        assert editors.left

    asyncio.run(work())

"""A language model behind an OpenAI-compatible URL: OpenAI itself, vLLM, Ray Serve, llama.cpp, …

Sends, waits and tries again. What an answer says is `chat_answer`'s matter, whose fault a failure
is `server_faults`'.
"""

import asyncio
import dataclasses
import os
import random
import threading
import time
import weakref
from collections.abc import Coroutine, Sequence
from typing import Any

import openai

from reasonray.core.console import say
from reasonray.core.errors import RunError, UserError
from reasonray.core.sections import LanguageModelConfig
from reasonray.models.chat_answer import CUT_OFF, FILTERED, Answer, Fault, read_answer
from reasonray.models.chat_pictures import (
    CHARACTERS_A_TOKEN,
    guessed_tokens,
    parts,
    pictures,
    with_data_uris,
)
from reasonray.models.language_model import (
    Dialogue,
    ReplyFailure,
    Request,
    next_request,
    reached_limit,
    served_name,
)
from reasonray.models.server_faults import SCHEMA_KEYWORDS, Change, Later, address, verdict

FIRST_WAIT_S = 0.5
FIRST_OUTAGE_WAIT_S = 2.0
"""Where the whole server is unavailable: it loads its model, or is started again."""

FEW_LATE = 3
"""So many requests without a reply in time, and more than were answered, are too many at once."""

LONGEST_WAIT_S = 30.0
"""Of our own backoff, doubled each time; a server's Retry-After is honoured beyond it."""


class OpenAIServer:
    """Sends requests concurrently, each with its own timeout and retries; for many threads.

    Structured output is asked for as a strict JSON schema; a server that says it does not take
    that is asked for any JSON object, then for plain text. What a server does not take is left out
    of all later requests, once a request has succeeded without it.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        base_url = config.server.base_url or os.environ.get("OPENAI_BASE_URL")
        server = config.server.model_copy(update={"base_url": base_url})
        self.config = config.model_copy(update={"server": server})
        key = os.environ.get("OPENAI_API_KEY")
        if not key and not base_url:
            raise UserError(
                "language_model: OpenAI needs a key in the environment variable OPENAI_API_KEY; "
                "for another server set language_model.server.base_url"
            )
        self.num_tokens_used = 0
        self._changes: frozenset[str] = frozenset()
        self._not_before = 0.0
        self._num_answered = self._num_late = 0
        self._other_model = ""
        self.notices: list[str] = []
        self._limit = asyncio.Semaphore(server.max_concurrency)
        self._client = openai.AsyncOpenAI(
            # Servers that need no key still want the header.
            api_key=key or "none",
            base_url=base_url,
            # Connecting fails first, so that a server out of reach is told from a slow prompt.
            timeout=openai.Timeout(server.timeout_s, connect=min(30.0, server.timeout_s / 2)),
            max_retries=0,
        )
        # A thread of its own: callers may be many, and may have a running loop (a notebook's).
        self._loop = asyncio.new_event_loop()
        threading.Thread(
            target=_serve, args=(self._loop, self._client), name="reasonray-asks", daemon=True
        ).start()
        self._close = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    def converse(self, dialogues: Sequence[Dialogue]) -> None:
        """Answer each dialogue's requests as soon as it asks, without waiting for the others.

        Raises:
            RunError: the server is unreachable, refuses the key, model or account, or the token
                budget is spent.
        """
        asyncio.run_coroutine_threadsafe(
            _together([self._follow(dialogue) for dialogue in dialogues]), self._loop
        ).result()

    def reply(self, requests: Sequence[Request]) -> list[str | ReplyFailure]:
        """One text or failure for each request.

        Raises:
            RunError: as `converse`.
        """
        replies: list[str | ReplyFailure] = [""] * len(requests)

        def ask(index: int) -> Dialogue:
            replies[index] = yield requests[index]

        self.converse([ask(index) for index in range(len(requests))])
        return replies

    async def _follow(self, dialogue: Dialogue) -> None:
        request: Request | None = next(dialogue)
        while request is not None:
            async with self._limit:
                reply = await self._answer(request)
            request = next_request(dialogue, reply)

    async def _answer(self, request: Request) -> str | ReplyFailure:
        waits = random.Random(request.seed)
        if pictures(request.messages):
            # Not in this thread, which all requests share: a large one takes a tenth of a second.
            messages = await asyncio.to_thread(with_data_uris, request.messages)
        else:
            messages = with_data_uris(request.messages)
        sent = dataclasses.replace(request, messages=messages)
        changes, max_tokens = set(self._changes), request.max_tokens
        num_failures, is_late = 0, False
        while True:
            while (left := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(left)
            body = request_body(sent, served_name(self.config), changes, max_tokens)
            outcome = await self._attempt(body)
            match outcome:
                case Answer():
                    self._remember(changes)
                    self._note_model(outcome.model)
                    self._count(outcome, request)
                    return _text(outcome, request.max_tokens, max_tokens)
                case ReplyFailure():
                    return outcome
                case Change("limit"):
                    max_tokens //= 2
                case Change("response_format"):
                    changes.add(body["response_format"]["type"])
                case Change(name):
                    changes.add(name)
                case Later(_, wait, blames_server):
                    num_failures += 1
                    self._num_late += outcome.is_late and not is_late
                    is_late |= outcome.is_late
                    if num_failures >= self.config.server.max_attempts:
                        return self._given_up(outcome)
                    if blames_server and wait is not None:
                        # Everyone waits: what is sent meanwhile would only be refused as well.
                        self._not_before = max(self._not_before, time.monotonic() + wait)
                    first = FIRST_OUTAGE_WAIT_S if blames_server else FIRST_WAIT_S
                    own = min(LONGEST_WAIT_S, first * 2.0 ** (num_failures - 1))
                    # Jitter, so that requests refused together do not return together.
                    await asyncio.sleep(own * waits.uniform(0.5, 1) if wait is None else wait)

    async def _attempt(self, body: dict[str, Any]) -> Answer | Change | Later | ReplyFailure:
        """Send one request, and judge what comes of it.

        Raises:
            RunError: no request can be answered.
        """
        budget, server = self.config.server.token_budget, self.config.server
        if budget is not None and self.num_tokens_used >= budget:
            raise RunError(
                f"language model: the token budget is spent ({self.num_tokens_used} of {budget}). "
                "Raise language_model.server.token_budget or set it to null"
            )
        try:
            # The client's own timeout is for each read: a server that drips would hang it.
            async with asyncio.timeout(server.timeout_s):
                answer = await self._send(body)
        except (TimeoutError, openai.APITimeoutError) as error:
            cause = type(error.__cause__).__name__
            detail = f"no reply within language_model.server.timeout_s ({server.timeout_s:g} s)"
            blames_server = cause in ("ConnectTimeout", "PoolTimeout")
            return Later(detail, blames_server=blames_server, is_late=not blames_server)
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__
            if cause in ("RemoteProtocolError", "ReadError", "WriteError", "DecodingError"):
                return Later(f"the connection broke off ({error.__cause__})")
            return Later(f"it cannot be reached ({error.__cause__ or error})", blames_server=True)
        return answer if isinstance(answer, Answer) else verdict(answer, body, self.config)

    async def _send(self, body: dict[str, Any]) -> Answer | Fault:
        try:
            raw = await self._client.chat.completions.with_raw_response.create(**body)
            response = raw.http_response
            content = await response.aread()
        except openai.APIStatusError as error:
            response, content = error.response, await error.response.aread()
        return read_answer(response.status_code, response.headers, content)

    def _remember(self, changes: set[str]) -> None:
        for name in sorted(changes - self._changes):
            what = "taken without" if name != "stream" else "taken only with"
            self._notify(f"requests are {what} {name}")
        self._changes |= changes

    def _note_model(self, name: str) -> None:
        """Say once that the server has answered to a name that is not its model's."""
        expected, actual = served_name(self.config).lower(), name.lower()
        # Some add a date or a variant to the name, some leave it out.
        if self._other_model or expected.startswith(actual) or actual.startswith(expected):
            return
        self._other_model = name
        self._notify(f"it answers as {name}; {self.config.model.name} was asked for")

    def _notify(self, what: str) -> None:
        notice = f"language model: {address(self.config)}: {what}"
        self.notices.append(notice)
        say(notice)  # in an actor nobody reads it; the run tells the notices

    def _count(self, answer: Answer, request: Request) -> None:
        self._num_answered += 1
        num_written = answer.num_written
        if num_written is None:
            num_written = len(answer.text) // CHARACTERS_A_TOKEN
        if answer.num_tokens is None:
            num_read = guessed_tokens(request.messages)
        else:
            num_written = min(num_written, answer.num_tokens)
            num_read = answer.num_tokens - num_written
        self.num_tokens_used += num_read + num_written
        request.spent(num_read, num_written)

    def _given_up(self, last: Later) -> ReplyFailure:
        num_tries = self.config.server.max_attempts
        if last.blames_server:
            raise RunError(
                f"language model: {address(self.config)}: {last.detail}, {num_tries} times. Check "
                "the server and language_model.server.base_url and max_concurrency"
            )
        if last.is_late and self._num_late >= max(FEW_LATE, self._num_answered + 1):
            raise RunError(
                f"language model: {address(self.config)}: {last.detail}, {num_tries} times, and "
                f"so for {self._num_late} requests while {self._num_answered} were answered. Lower "
                "language_model.server.max_concurrency to what it bears, or raise timeout_s"
            )
        return ReplyFailure(f"After {num_tries} tries: {last.detail}.")


def request_body(
    request: Request, model: str, changes: set[str], max_tokens: int
) -> dict[str, Any]:
    """What is sent.

    Args:
        request: the chat to be continued, its pictures as data URIs.
        model: the server's name for it.
        changes: what the server does not take: parameters, JSON schema keywords, json_schema and
            json_object (kinds of response_format), system; or stream, which it wants.
        max_tokens: of the reply; the request's own, or less.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [dict(message) for message in request.messages],
        "temperature": request.temperature,
        # Some servers keep seeds in 32 bits.
        "seed": request.seed % 2**31,
        "max_tokens": max_tokens,
    }
    if "max_tokens" in changes:
        body["max_completion_tokens"] = max_tokens
    if request.json_schema is not None and "json_schema" not in changes:
        keywords = changes.intersection(SCHEMA_KEYWORDS)
        schema = {"name": "reply", "strict": True, "schema": request.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": _without(schema, keywords)}
    elif request.json_schema is not None and "json_object" not in changes:
        body["response_format"] = {"type": "json_object"}
    if "stream" in changes:
        body["stream"] = True
    if "system" in changes and body["messages"][0]["role"] == "system":
        system, first, *others = body["messages"]
        body["messages"] = [_merged(system, first), *others]
    return {key: value for key, value in body.items() if key not in changes or key == "stream"}


def _merged(system: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """The first turn with the system's text before its own."""
    if isinstance(first["content"], str):
        return {**first, "content": f"{system['content']}\n\n{first['content']}"}
    return {**first, "content": [*parts(system["content"]), *parts(first["content"])]}


def _without(node: Any, keywords: set[str]) -> Any:
    if isinstance(node, dict):
        return {key: _without(each, keywords) for key, each in node.items() if key not in keywords}
    return [_without(each, keywords) for each in node] if isinstance(node, list) else node


def _text(answer: Answer, max_tokens: int, room: int) -> str | ReplyFailure:
    """The reply to a request of `max_tokens`, for which the server had so much room at most."""
    if answer.refusal:
        return ReplyFailure(f"The model refused: {answer.refusal}", "refused")
    if any(word in answer.finish_reason for word in FILTERED):
        return ReplyFailure("Refused by the content filter.", "content_filter")
    if answer.finish_reason in CUT_OFF:
        num_written = answer.num_written
        if num_written is None and room < max_tokens:
            num_written = room
        return reached_limit(answer.text, max_tokens, num_written, has_thoughts=answer.has_thoughts)
    return answer.text


async def _together(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all; where one fails, stop the others before the error goes on."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _serve(loop: asyncio.AbstractEventLoop, client: openai.AsyncOpenAI) -> None:
    """The thread of a server's requests, until it is let go of."""
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.run_until_complete(client.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

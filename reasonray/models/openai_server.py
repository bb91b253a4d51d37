"""A language model behind an OpenAI-compatible URL: OpenAI itself, vLLM, Ray Serve, llama.cpp, …

What is the server's fault (gone, key refused, quota, budget) stops the run, to be resumed; what
is one prompt's fault (it hangs, or fails the server each time) is that prompt's failure.
"""

import asyncio
import email.utils
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from reasonray.core.errors import RunError, UserError
from reasonray.core.sections import LanguageModelConfig
from reasonray.models.language_model import ReplyFailure, Request

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
"""Of our own backoff, doubled each time; a server's Retry-After is honoured beyond it."""

LONGEST_RETRY_AFTER_S = 900.0
"""A server that asks for a longer pause stops the run: better resumed than asleep."""

MAX_FAILURES_IN_A_ROW = 25
"""So many prompts failing one after the other is no longer the prompts' fault."""

_FORMATS = ("json_schema", "json_object", None)

_DROPPABLE = ("max_tokens", "temperature", "seed")
"""Parameters that some servers or models do not take; a reply can do without them."""


@dataclass(frozen=True)
class Drop:
    """The server does not take a parameter of the request: send it again without."""

    name: str


@dataclass(frozen=True)
class Later:
    """It may go better at the next try.

    Attributes:
        detail: a clause for messages, without a full stop.
        wait: seconds until then, as the server asks; None: our own backoff.
        blames_server: every prompt would meet this now, so all wait, and the last try stops the
            run; otherwise the prompt fails alone.
    """

    detail: str
    wait: float | None = None
    blames_server: bool = False


class OpenAIServer:
    """Sends requests concurrently, each with its own timeout and retries.

    Structured output is asked for as a strict JSON schema; a server that says it does not take
    that is asked for any JSON object, then for plain text.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        base_url = config.server.base_url or os.environ.get("OPENAI_BASE_URL")
        server = config.server.model_copy(update={"base_url": base_url})
        self.config = config.model_copy(update={"server": server})
        self.key = os.environ.get("OPENAI_API_KEY")
        if not self.key and not base_url:
            raise UserError(
                "language_model: OpenAI needs a key in the environment variable OPENAI_API_KEY; "
                "for another server set language_model.server.base_url"
            )
        self.num_tokens_used = 0
        self._format = 0
        self._dropped: set[str] = set()
        self._failures_in_a_row = 0
        self._not_before = 0.0

    def reply(self, requests: Sequence[Request]) -> list[str | ReplyFailure]:
        """One text or failure for each request.

        Raises:
            RunError: the server is unreachable, refuses the key, model or quota, fails for every
                prompt, or the token budget is spent.
        """
        # A thread of its own: the caller's may have a running event loop (a notebook's).
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(asyncio.run, self._all(requests)).result()

    async def _all(self, requests: Sequence[Request]) -> list[str | ReplyFailure]:
        limit = asyncio.Semaphore(self.config.server.max_concurrency)
        timeout_s = self.config.server.timeout_s
        async with openai.AsyncOpenAI(
            # Servers that need no key still want the header.
            api_key=self.key or "none",
            base_url=self.config.server.base_url,
            # Connecting fails first, so that a server out of reach is told from a slow prompt.
            timeout=openai.Timeout(timeout_s, connect=timeout_s / 2),
            max_retries=0,
        ) as client:
            tasks = [asyncio.create_task(self._one(client, limit, item)) for item in requests]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(
        self, client: openai.AsyncOpenAI, limit: asyncio.Semaphore, request: Request
    ) -> str | ReplyFailure:
        async with limit:
            reply = await self._with_retries(client, request)
        if isinstance(reply, ReplyFailure):
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise RunError(
                    f"language model: {_where(self.config)} failed for "
                    f"{self._failures_in_a_row} prompts in a row, last: {reply.detail} Mend the "
                    "server"
                )
        else:
            self._failures_in_a_row = 0
        return reply

    async def _with_retries(
        self, client: openai.AsyncOpenAI, request: Request
    ) -> str | ReplyFailure:
        waits = random.Random(request.seed)
        form = self._format
        num_failures = 0
        while True:
            await self._pause()
            options = self._options(request, form)
            try:
                # The client's own timeout is for each read: a server that drips would hang it.
                async with asyncio.timeout(self.config.server.timeout_s):
                    completion = await self._send(client, request, options)
                return self._text(completion, request, form)
            except (openai.APIError, TimeoutError, ValueError) as error:
                outcome = verdict(error, options, self.config)
            match outcome:
                case ReplyFailure():
                    return outcome
                case Drop("response_format"):
                    form += 1
                case Drop(name):
                    self._dropped.add(name)
                case Later(_, wait, blames_server):
                    num_failures += 1
                    if num_failures == self.config.server.max_attempts:
                        return self._given_up(outcome)
                    if blames_server and wait is not None:
                        # Everyone waits: what is sent meanwhile would only be refused as well.
                        self._not_before = max(self._not_before, time.monotonic() + wait)
                    await asyncio.sleep(_backoff(num_failures, waits) if wait is None else wait)

    def _given_up(self, last: Later) -> ReplyFailure:
        num_tries = self.config.server.max_attempts
        if last.blames_server:
            raise RunError(
                f"language model: {_where(self.config)}: {last.detail}, {num_tries} times. Check "
                "the server and language_model.server.base_url and max_concurrency"
            )
        return ReplyFailure(f"After {num_tries} tries: {last.detail}.")

    def _options(self, request: Request, form: int) -> dict[str, Any]:
        """What is sent beside model and messages, without what the server does not take."""
        options: dict[str, Any] = {
            "temperature": request.temperature,
            # Some servers keep seeds in 32 bits.
            "seed": request.seed % 2**31,
            "max_tokens": request.max_tokens,
        }
        if "max_tokens" in self._dropped:
            options["max_completion_tokens"] = request.max_tokens
        if request.json_schema is not None and _FORMATS[form] == "json_schema":
            schema = {"name": "reply", "strict": True, "schema": request.json_schema}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.json_schema is not None and _FORMATS[form] == "json_object":
            options["response_format"] = {"type": "json_object"}
        return {key: value for key, value in options.items() if key not in self._dropped}

    async def _send(
        self, client: openai.AsyncOpenAI, request: Request, options: Mapping[str, Any]
    ) -> ChatCompletion:
        budget = self.config.server.token_budget
        if budget is not None and self.num_tokens_used >= budget:
            raise RunError(
                f"language model: the token budget is spent ({self.num_tokens_used} of {budget}). "
                "Raise language_model.server.token_budget or set it to null"
            )
        completion: ChatCompletion = await client.chat.completions.create(
            model=self.config.model.name,
            messages=[dict(message) for message in request.messages],  # type: ignore[misc]
            **options,
        )
        return completion

    def _text(self, completion: object, request: Request, form: int) -> str | ReplyFailure:
        # A body that is no JSON comes back from the client as a plain string.
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise ValueError("it holds no choices")
        self._format = max(self._format, form)
        message = completion.choices[0].message
        text = message.content or ""
        if completion.usage is not None:
            self.num_tokens_used += completion.usage.total_tokens
        else:
            num_letters = sum(len(str(turn["content"])) for turn in request.messages)
            self.num_tokens_used += (num_letters + len(text)) // 4
        if message.refusal:
            return ReplyFailure(f"The model refused: {message.refusal}")
        return text

    async def _pause(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)


def verdict(
    error: Exception, sent: Mapping[str, Any], config: LanguageModelConfig
) -> Drop | Later | ReplyFailure:
    """What an error means for the request that met it.

    Args:
        error: of openai's client, a timeout of our own, or a `ValueError` of an unusable answer.
        sent: the request's parameters beside model and messages, as this request had them:
            another may have dropped one meanwhile.
        config: of the server; its `server.base_url` may come from the environment.

    Raises:
        RunError: no prompt can be answered: the key, the quota or the model is refused, or the
            server asks for a longer pause than a run should sleep.
    """
    if isinstance(error, openai.APIStatusError):
        return _verdict_on_status(error, sent, config)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        connects = type(error.__cause__).__name__ == "ConnectTimeout"
        return Later(f"no reply within {config.server.timeout_s:g} s", blames_server=connects)
    if isinstance(error, openai.APIConnectionError):
        return Later(f"it cannot be reached ({error.__cause__ or error})", blames_server=True)
    return Later(f"the server's answer is no chat completion ({error})")


def _verdict_on_status(
    error: openai.APIStatusError, sent: Mapping[str, Any], config: LanguageModelConfig
) -> Drop | Later | ReplyFailure:
    where, words = _where(config), _words(error)
    match error.status_code:
        case 400 if name := _refused(error, sent):
            return Drop(name)
        case 401 | 403:
            raise RunError(
                f"language model: {where} refuses the key ({words}). Set OPENAI_API_KEY to a "
                "valid one"
            ) from error
        case 404:
            raise RunError(
                f"language model: {where} has no model {config.model.name} or is no "
                f"OpenAI-compatible /v1 URL ({words}). Correct language_model in the recipe"
            ) from error
        case 429 if error.code == "insufficient_quota":
            raise RunError(
                f"language model: {where}: the account's quota is spent ({words}). Raise it"
            ) from error
        case 429:
            wait = _retry_after(error.response.headers)
            return Later("it answers 429, too many requests", wait, blames_server=True)
        case status if status >= 500 or status in (408, 409, 425):
            detail = f"the server answered {status} each time ({words})"
            return Later(detail, _retry_after(error.response.headers))
    return ReplyFailure(f"The server refused the prompt: {words}.")


def _refused(error: openai.APIStatusError, sent: Mapping[str, Any]) -> str | None:
    """Which of the parameters sent the server says it does not take; None: it is the prompt."""
    words = _words(error)
    for name in _DROPPABLE:
        # In quotes or after a colon: a prompt that the server repeats may hold the word too.
        named = re.search(rf"""(?:['"`]|: ){name}\b""", words)
        if name in sent and (error.param == name or named):
            return name
    formats = re.search("response_format|json[ _](?:schema|object)", words, re.IGNORECASE)
    if "response_format" in sent and (error.param == "response_format" or formats):
        return "response_format"
    return None


def _backoff(failures: int, waits: random.Random) -> float:
    """Seconds: doubling, with jitter so that requests refused together do not return together."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (failures - 1)) * waits.uniform(0.5, 1)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait: a number or an HTTP date; None if it asks for nothing.

    Raises:
        RunError: it asks for longer than a run should sleep.
    """
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        wait = float(text)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    if wait > LONGEST_RETRY_AFTER_S:
        raise RunError(
            f"language model: the server asks to wait {wait:.0f} s, longer than a run sleeps"
        )
    return max(0.0, wait)


def _where(config: LanguageModelConfig) -> str:
    return config.server.base_url or "api.openai.com"


def _words(error: openai.APIStatusError) -> str:
    """The server's own words, on one line, bounded."""
    return " ".join(str(error.message).split())[:300].rstrip(".")

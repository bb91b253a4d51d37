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

RESUME = "then run the same command again: it resumes."

_FORMATS = ("json_schema", "json_object", None)

_DROPPABLE = ("max_tokens", "temperature", "seed")
"""Parameters that some servers or models do not take; a reply can do without them."""


class OpenAIServer:
    """Sends requests concurrently, each with its own timeout and retries.

    Structured output is asked for as a strict JSON schema; a server that says it does not take
    that is asked for any JSON object, then for plain text.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        self.config = config
        self.base_url = config.base_url or os.environ.get("OPENAI_BASE_URL")
        self.key = os.environ.get("OPENAI_API_KEY")
        if not self.key and not self.base_url:
            raise UserError(
                "language_model: OpenAI needs a key in the environment variable OPENAI_API_KEY; "
                "for another server set language_model.base_url"
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
        limit = asyncio.Semaphore(self.config.max_concurrency)
        async with openai.AsyncOpenAI(
            # Servers that need no key still want the header.
            api_key=self.key or "none",
            base_url=self.base_url,
            # Connecting fails first, so that a server out of reach is told from a slow prompt.
            timeout=openai.Timeout(self.config.timeout_s, connect=self.config.timeout_s / 2),
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
                    f"language model: {self._where} failed for {self._failures_in_a_row} prompts "
                    f"in a row, last: {reply.detail} Mend the server, {RESUME}"
                )
        else:
            self._failures_in_a_row = 0
        return reply

    async def _with_retries(
        self, client: openai.AsyncOpenAI, request: Request
    ) -> str | ReplyFailure:
        waits = random.Random(request.seed)
        detail, blame_server = "", False
        failures = 0
        tried = self._format
        while failures < self.config.max_attempts:
            await self._pause()
            wait: float | None = None
            options = self._options(request, tried)
            try:
                # The client's own timeout is for each read: a server that drips would hang it.
                async with asyncio.timeout(self.config.timeout_s):
                    completion = await self._send(client, request, options)
                return self._text(completion, request, tried)
            except openai.BadRequestError as error:
                # By what this request sent: another may have dropped the parameter meanwhile.
                refused = _refused(error, options)
                if refused == "response_format":
                    tried += 1
                elif refused is not None:
                    self._dropped.add(refused)
                else:
                    return ReplyFailure(f"The server refused the prompt: {_said(error)}.")
                continue
            except openai.RateLimitError as error:
                if error.code == "insufficient_quota":
                    raise RunError(
                        f"language model: {self._where}: the account's quota is spent "
                        f"({_said(error)}). Raise it, {RESUME}"
                    ) from error
                detail, blame_server = "it answers 429, too many requests", True
                wait = _retry_after(error.response.headers)
                if wait is not None:
                    # Everyone waits: requests sent meanwhile would only be refused as well.
                    self._not_before = max(self._not_before, time.monotonic() + wait)
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                raise RunError(
                    f"language model: {self._where} refuses the key ({_said(error)}). Set "
                    f"OPENAI_API_KEY to a valid one, {RESUME}"
                ) from error
            except openai.NotFoundError as error:
                raise RunError(
                    f"language model: {self._where} has no model {self.config.model.name} or is "
                    f"no OpenAI-compatible /v1 URL ({_said(error)}). Correct language_model in "
                    "the recipe."
                ) from error
            except openai.APIStatusError as error:
                if error.status_code < 500 and error.status_code not in (408, 409, 425):
                    return ReplyFailure(f"The server refused the prompt: {_said(error)}.")
                detail = f"the server answered {error.status_code} each time ({_said(error)})"
                blame_server = False
                wait = _retry_after(error.response.headers)
            except (TimeoutError, openai.APITimeoutError) as error:
                detail = f"no reply within {self.config.timeout_s:g} s"
                blame_server = type(error.__cause__).__name__ == "ConnectTimeout"
            except openai.APIConnectionError as error:
                detail, blame_server = f"it cannot be reached ({error.__cause__ or error})", True
            except (openai.APIError, ValueError) as error:
                detail = f"the server's answer is no chat completion ({error})"
                blame_server = False
            failures += 1
            if failures < self.config.max_attempts:
                await asyncio.sleep(_backoff(failures, waits) if wait is None else wait)
        if blame_server:
            raise RunError(
                f"language model: {self._where}: {detail}, {failures} times. Check the server and "
                f"language_model.base_url and max_concurrency, {RESUME}"
            )
        return ReplyFailure(f"After {failures} tries: {detail}.")

    def _options(self, request: Request, form: int) -> dict[str, Any]:
        """What is sent beside model and messages, without what the server does not take."""
        asked: dict[str, Any] = {
            "temperature": request.temperature,
            # Some servers keep seeds in 32 bits.
            "seed": request.seed % 2**31,
            "max_tokens": request.max_tokens,
        }
        if "max_tokens" in self._dropped:
            asked["max_completion_tokens"] = request.max_tokens
        if request.json_schema is not None and _FORMATS[form] == "json_schema":
            schema = {"name": "reply", "strict": True, "schema": request.json_schema}
            asked["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.json_schema is not None and _FORMATS[form] == "json_object":
            asked["response_format"] = {"type": "json_object"}
        return {key: value for key, value in asked.items() if key not in self._dropped}

    async def _send(
        self, client: openai.AsyncOpenAI, request: Request, options: Mapping[str, Any]
    ) -> ChatCompletion:
        budget = self.config.token_budget
        if budget is not None and self.num_tokens_used >= budget:
            raise RunError(
                f"language model: the token budget is spent ({self.num_tokens_used} of {budget}). "
                f"Raise language_model.token_budget or set it to null, {RESUME}"
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
            asked = sum(len(str(turn["content"])) for turn in request.messages)
            self.num_tokens_used += (asked + len(text)) // 4
        if message.refusal:
            return ReplyFailure(f"The model refused: {message.refusal}")
        return text

    async def _pause(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)

    @property
    def _where(self) -> str:
        return self.base_url or "api.openai.com"


def _refused(error: openai.BadRequestError, sent: Mapping[str, Any]) -> str | None:
    """Which of the parameters sent the server says it does not take; None: it is the prompt."""
    said = _said(error)
    for name in _DROPPABLE:
        # In quotes or after a colon: a prompt that the server repeats may hold the word too.
        named = re.search(rf"""(?:['"`]|: ){name}\b""", said)
        if name in sent and (error.param == name or named):
            return name
    formats = re.search("response_format|json[ _](?:schema|object)", said, re.IGNORECASE)
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
        raise RunError(f"language model: the server asks to wait {wait:.0f} s. Wait, {RESUME}")
    return max(0.0, wait)


def _said(error: openai.APIStatusError) -> str:
    """The server's own words, on one line, bounded."""
    return " ".join(str(error.message).split())[:300].rstrip(".")

"""Stands in Serve's proxy before everything else: bodies are bounded, answers are JSON.

Serve's proxy keeps whole bodies, without a limit, of requests that wait for the ingress; waits for
ever for a body that does not come; lets clients change its own behaviour by headers; and answers in
plain text. This is pure ASGI, and knows nothing of editing. `ray start` or `ray.init` finds it by
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` in the environment.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware

from reasonray.serving.config import MAX_BODY
from reasonray.serving.errors import ApiError, busy, lost, too_large

IMPORT_PATH = f"{__name__}:middlewares"
"""The value of the environment variable."""

BUDGET = 256 * 2**20
"""Bytes of bodies in this proxy, of all requests that are not yet answered."""

CHUNK_S = 5.0
"""Seconds of silence in a body."""

BODY_S = 60.0
"""Seconds for a whole body: 25 MB by 3.5 Mbit/s."""

# They would lift Serve's limit on time, switch off that a client who leaves stops the work, or
# choose a replica's model.
STRIPPED = frozenset(
    (
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
    )
)

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]


class Guard:
    """The middleware; see the module.

    Args:
        app: what is guarded.
        max_body, budget: bytes.
        chunk_s, body_s: seconds.
    """

    def __init__(
        self,
        app: _App,
        max_body: int = MAX_BODY,
        budget: int = BUDGET,
        chunk_s: float = CHUNK_S,
        body_s: float = BODY_S,
    ) -> None:
        self.app, self.max_body, self.budget = app, max_body, budget
        self.chunk_s, self.body_s = chunk_s, body_s
        self.held = 0  # of the budget

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send
    ) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = [(name, text) for name, text in scope["headers"] if name.lower() not in STRIPPED]
        named = dict(headers)
        request_id: bytes = named.get(b"x-request-id") or uuid.uuid4().hex.encode()
        if b"x-request-id" not in named:
            headers.append((b"x-request-id", request_id))
        request = _Request(self, receive, send, request_id)
        text = named.get(b"content-length", b"")
        length = int(text) if text.isdigit() else 0
        if length > self.max_body:
            await request.answer(too_large(self.max_body))
            return
        request.is_whole = not length and b"transfer-encoding" not in named
        # Only what has come is held, not what is announced: announcing costs a client nothing.
        if self.held + length > self.budget:
            await request.answer(_too_many_uploads())
            return
        try:
            await self.app({**scope, "headers": headers}, request.receive, request.send)
        except Exception:
            # Of a request that was cut off here, Serve's complaint says nothing new.
            if request.refusal is None:
                raise
        finally:
            self.held -= request.held
            await request.finish()


class _Request:
    """What the guard knows of one request."""

    def __init__(self, guard: Guard, receive: _Receive, send: _Send, request_id: bytes) -> None:
        self._guard, self._receive, self._send, self._id = guard, receive, send, request_id
        self._begin = time.monotonic()
        self._is_started = False
        self._plain: _Message | None = None  # the start of an answer of Serve's own, in plain text
        self._text = b""
        self.held = 0  # bytes of the body
        self.is_whole = False
        self.refusal: ApiError | None = None

    async def receive(self) -> _Message:
        """A piece of the body, or the news that the request is refused, as a disconnect."""
        if self.is_whole:
            return await self._receive()
        left = self._begin + self._guard.body_s - time.monotonic()
        try:
            message = await asyncio.wait_for(
                self._receive(), max(0.01, min(self._guard.chunk_s, left))
            )
        except TimeoutError:
            return self._refuse(_too_slow())
        size = len(message.get("body", b""))
        if self.held + size > self._guard.max_body:
            return self._refuse(too_large(self._guard.max_body))
        if self._guard.held + size > self._guard.budget:
            return self._refuse(_too_many_uploads())
        self.held += size
        self._guard.held += size
        self.is_whole = message["type"] == "http.disconnect" or not message.get("more_body")
        return message

    async def send(self, message: _Message) -> None:
        """Hand the answer on; one of Serve's own in plain text becomes JSON."""
        if self.refusal is not None and not self._is_started:
            return  # the application's complaint about it
        if message["type"] == "http.response.start":
            kind = dict(message["headers"]).get(b"content-type", b"")
            if message["status"] >= 400 and kind.startswith(b"text/plain"):
                self._plain = message
                return
            self._is_started = True
        elif self._plain is not None:
            self._text += message.get("body", b"")
            if not message.get("more_body"):
                plain, self._plain = self._plain, None
                await self.answer(_translated(plain, self._text.decode(errors="replace")))
            return
        await self._send(message)

    async def finish(self) -> None:
        """Answer if nobody has: it was refused here, or the ingress's process died."""
        await self.answer(self.refusal or lost())

    async def answer(self, error: ApiError) -> None:
        """Send the error, once."""
        if self._is_started:
            return
        self._is_started = True
        body = error.body()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-request-id": self._id.decode("latin-1"),
            **error.headers,
        }
        encoded = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
        start = {"type": "http.response.start", "status": error.status, "headers": encoded}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})

    def _refuse(self, error: ApiError) -> _Message:
        self.refusal, self.is_whole = error, True
        return {"type": "http.disconnect"}


def _too_slow() -> ApiError:
    message = "The request's body came too slowly."
    return ApiError(408, "request_timeout", message, headers={"Connection": "close"})


def _too_many_uploads() -> ApiError:
    error = busy("Too many pictures are being uploaded or edited.", 2)
    error.headers["Connection"] = "close"
    return error


def _translated(start: _Message, text: str) -> ApiError:
    """Serve's own answer: 404 (no route), 408 (its limit on time), 429 or 503 (full, starting)."""
    headers = {
        name.decode().title(): value.decode("latin-1")
        for name, value in start["headers"]
        if name.lower() in (b"retry-after", b"allow")
    }
    status = start["status"]
    if status == 408:
        headers["x-should-retry"] = "false"
        return ApiError(504, "timeout", "The request took too long.", headers=headers)
    if status in (500, 502):
        return lost()
    if status == 503:
        return ApiError(503, "starting", text, headers={"Retry-After": "1", **headers})
    if status == 429:
        return ApiError(429, "server_busy", text, headers={"Retry-After": "2", **headers})
    return ApiError(status, "not_found" if status == 404 else "invalid_value", text, None, headers)


def middlewares() -> list[Middleware]:
    """What Serve's proxy asks for."""
    return [Middleware(Guard)]

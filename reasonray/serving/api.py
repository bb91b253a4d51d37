"""The HTTP application: who may ask, what is asked for, what is answered. It knows nothing of Ray.

Everything in front of an editor's work: routes, keys, the form, the deadline, streams. Who edits is
behind `Editors`, so that the same application is tested without a cluster.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from reasonray.core.version import __version__
from reasonray.serving import wire
from reasonray.serving.config import ServingConfig
from reasonray.serving.errors import ApiError, internal, late, starting
from reasonray.serving.keys import Doorkeeper
from reasonray.serving.pictures import sizes, tasks
from reasonray.serving.schema import EDITS, error_responses
from reasonray.serving.task import EditTask, Event, Facts, FinishedFile

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

# More would only share the cores, and each picture takes up to 50 MB meanwhile.
_DECODED_AT_ONCE = 2


class Editors(Protocol):
    """Who edits, by name."""

    @property
    def names(self) -> Sequence[str]:
        """The served models; the first is the default."""

    async def facts(self, name: str) -> Facts:
        """What the editor says of itself."""

    def edit(self, name: str, task: EditTask) -> AsyncGenerator[Event, None]:
        """Partial pictures, then the finished one; closed early, the work on it ends.

        Raises:
            ApiError: 429, 503 and what else an editor answers.
        """

    async def ready(self) -> bool:
        """Whether every editor answers."""


def make_app(editors: Editors, doorkeeper: Doorkeeper, config: ServingConfig) -> FastAPI:
    """The application of one ingress process.

    Args:
        editors: who edits.
        doorkeeper: who may ask.
        config: of the service.
    """
    app = FastAPI(
        title="reasonray",
        version=__version__,
        description="Edits pictures as instructions say. OpenAI's clients work with it unchanged.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(_Frame)
    app.add_exception_handler(ApiError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    api = _Api(editors, doorkeeper, config)
    # Says in /openapi.json that there are keys; the doorkeeper checks them.
    keyed = [] if config.anonymous else [Security(HTTPBearer(auto_error=False))]
    errors = (400, 401, 404, 408, 413, 415, 429, 500, 503, 504)
    app.post(
        "/v1/images/edits",
        summary="Edit a picture",
        dependencies=keyed,
        responses=error_responses(*errors),
        openapi_extra=EDITS,
        response_model=None,
    )(api.edits)
    listed: dict[str, Any] = {"dependencies": keyed, "responses": error_responses(401, 404)}
    app.get("/v1/models", summary="The served editors", **listed)(api.models)
    app.get("/v1/models/{model}", summary="One of them", **listed)(api.model)
    app.get("/healthz", summary="The process lives")(api.healthz)
    app.get("/readyz", summary="Editors answer", responses=error_responses(503))(api.readyz)
    app.get("/", include_in_schema=False)(api.page)
    app.get("/{name}", include_in_schema=False)(api.page)
    return app


class _Api:
    """The routes."""

    def __init__(self, editors: Editors, doorkeeper: Doorkeeper, config: ServingConfig) -> None:
        self._editors, self._doorkeeper, self._config = editors, doorkeeper, config
        self._decoding = asyncio.Semaphore(_DECODED_AT_ONCE)
        self._page = {
            path.name: (path.read_bytes(), _MEDIA_TYPES[path.suffix])
            for path in PAGE.iterdir()
            if path.suffix in _MEDIA_TYPES
        }

    async def edits(self, request: Request) -> Response:
        begin = time.time()
        self._admit(request, counted=True)
        seconds = _patience(request, self._config.deadline_s)
        form = await wire.read_form(request.headers, request.stream())
        name = self._named(form.model or self._editors.names[0])
        try:
            async with asyncio.timeout(max(0.0, begin + seconds - time.time())):
                facts = await self._editors.facts(name)
                async with self._decoding:
                    jobs = await asyncio.to_thread(tasks, form, facts, begin + seconds)
                if form.stream:
                    return await self._stream(name, jobs[0], form, seconds)
                files = await self._files(name, jobs)
        except TimeoutError:
            raise late(seconds) from None
        content = await asyncio.to_thread(wire.reply, files, form, jobs[0].size)
        return Response(content, media_type="application/json")

    async def models(self, request: Request) -> dict[str, Any]:
        self._admit(request, counted=False)
        return {"object": "list", "data": [await self._model(each) for each in self._editors.names]}

    async def model(self, request: Request, model: str) -> dict[str, Any]:
        self._admit(request, counted=False)
        return await self._model(self._named(model))

    async def healthz(self) -> dict[str, str]:
        return {"status": "ok"}

    async def readyz(self) -> dict[str, str]:
        if not await self._editors.ready():
            raise starting()
        return {"status": "ready"}

    async def page(self, name: str = "index.html") -> Response:
        if name not in self._page:
            raise HTTPException(404)
        content, media_type = self._page[name]
        headers = {"Content-Security-Policy": _CONTENT_SECURITY_POLICY}
        return Response(content, media_type=media_type, headers=headers)

    def _admit(self, request: Request, *, counted: bool) -> None:
        self._doorkeeper.admit(request.headers.get("authorization"), counted=counted)

    def _named(self, name: str) -> str:
        if name not in self._editors.names:
            served = ", ".join(self._editors.names)
            message = f"No model {name[:100]!r} is served here; there is {served}."
            raise ApiError(404, "model_not_found", message, "model")
        return name

    async def _model(self, name: str) -> dict[str, Any]:
        facts = await self._editors.facts(name)
        return {
            "id": name,
            "object": "model",
            "created": facts.created,
            "owned_by": "reasonray",
            "sizes": ["auto", *sizes(facts)],
            "num_inference_steps": facts.num_inference_steps,
            "guidance_scale": facts.guidance_scale,
            "image_guidance_scale": facts.image_guidance_scale,
        }

    async def _files(self, name: str, jobs: Sequence[EditTask]) -> list[bytes]:
        """All of them, or the first's error, at which the others are given up."""
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(_finished(self._editors, name, job)) for job in jobs]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [each.result() for each in running]

    async def _stream(
        self, name: str, job: EditTask, form: wire.EditForm, seconds: float
    ) -> Response:
        """The events; what goes wrong before the first still has a status of its own."""
        events = self._editors.edit(name, job)
        try:
            first = await anext(events)
        except BaseException:
            await _close(events)
            raise

        async def written() -> AsyncGenerator[bytes, None]:
            try:
                async with asyncio.timeout(max(0.0, job.deadline - time.time())):
                    yield _event(first, form, job.size)
                    async for event in events:
                        yield _event(event, form, job.size)
                yield wire.DONE
            except TimeoutError:
                yield wire.error_event(late(seconds))
            except ApiError as error:
                yield wire.error_event(error)
            except Exception:
                log.exception("a stream failed")
                yield wire.error_event(internal())
            finally:
                await _close(events)

        return _Stream(written(), media_type="text/event-stream")


class _Stream(StreamingResponse):
    """One that is closed when the client leaves, also while a piece is on its way to the client.

    Starlette only stops reading; the model would work on until the garbage collector comes.
    """

    body_iterator: AsyncGenerator[bytes, None]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.body_iterator.aclose()


async def _finished(editors: Editors, name: str, job: EditTask) -> bytes:
    events = editors.edit(name, job)
    try:
        async for event in events:
            if isinstance(event, FinishedFile):
                return event.file
    finally:
        await _close(events)
    raise internal()


async def _close(events: AsyncGenerator[Event, None]) -> None:
    with contextlib.suppress(Exception):
        await events.aclose()


def _event(event: Event, form: wire.EditForm, size: tuple[int, int]) -> bytes:
    if isinstance(event, FinishedFile):
        return wire.completed_event(event.file, form, size)
    return wire.partial_event(event.file, event.index, form, size)


def _patience(request: Request, deadline_s: float) -> float:
    """Seconds until nobody waits any more: OpenAI's clients say how long theirs is."""
    try:
        own = float(request.headers.get("x-stainless-read-timeout", ""))
    except ValueError:
        return deadline_s
    return min(deadline_s, own) if math.isfinite(own) and own > 0 else deadline_s


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return Response(error.body(), error.status, error.headers, "application/json")


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    codes = {404: "not_found", 405: "method_not_allowed"}
    messages = {
        404: f"Nothing is at {request.url.path[:100]}.",
        405: f"{request.method} is not done here.",
    }
    code = codes.get(error.status_code, "invalid_value")
    message = messages.get(error.status_code, str(error.detail))
    ours = ApiError(error.status_code, code, message, headers=headers)
    return await _answer_error(request, ours)


class _Frame:
    """Around everything: headers for browsers and caches; a bug is a 500 without a word of it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_started = False

        async def framed(message: Any) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                headers = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        try:
            await self._app(scope, receive, framed)
        except ClientDisconnect:
            return  # nobody reads an answer
        except Exception:
            if is_started:
                raise
            log.exception("a request failed")
            error = internal()
            answer = Response(error.body(), error.status, error.headers, "application/json")
            await answer(scope, receive, framed)

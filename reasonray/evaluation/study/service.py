"""The study's web application: a page for each worker, behind the token in its link.

/TOKEN/                   the page
/TOKEN/questions          what is asked, and what has been answered
/TOKEN/pictures/NAME      a picture of these questions
/TOKEN/answers            POST {"task": 3, "picture": NAME}; told when it is on the disk
"""

import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from reasonray.evaluation.study.store import NoSuchChoiceError, Store

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    # The address is the key.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

# Of an answer, bytes.
_MAX_BODY = 2_000


def make_app(store: Store) -> Starlette:
    """The application.

    Args:
        store: of the study.
    """
    study = _Study(store)
    return Starlette(
        routes=[
            *(
                Route(f"/{path.name}", _file(path))
                for path in PAGE.iterdir()
                if path.suffix in _MEDIA_TYPES and path.suffix != ".html"
            ),
            Route("/{token}", study.redirect),
            Route("/{token}/", study.page),
            Route("/{token}/questions", study.questions),
            Route("/{token}/pictures/{name}", study.picture),
            Route("/{token}/answers", study.answers, methods=["POST"]),
            Route("/{path:path}", study.unknown),
        ],
        exception_handlers={sqlite3.Error: _not_stored},
    )


class _Study:
    """The routes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._page = (PAGE / "index.html").read_bytes()
        self._unknown = (PAGE / "unknown.html").read_bytes()

    def redirect(self, request: Request) -> Response:
        if self._worker(request) is None:
            return self.unknown(request)
        # Relative, so that it is right behind a proxy, too.
        return RedirectResponse(f"{request.path_params['token']}/", headers=_HEADERS)

    def page(self, request: Request) -> Response:
        if self._worker(request) is None:
            return self.unknown(request)
        return Response(self._page, headers=_HEADERS, media_type=_MEDIA_TYPES[".html"])

    def unknown(self, _: Request) -> Response:
        return Response(self._unknown, 404, _HEADERS, _MEDIA_TYPES[".html"])

    def questions(self, request: Request) -> Response:
        worker = self._worker(request)
        if worker is None:
            return _refused(404, "This link is none of the study's.")
        tasks = [
            {
                "task": task.task,
                "instruction": task.instruction,
                "before": task.before,
                "candidates": list(task.candidates),
                "answer": task.answer,
            }
            for task in self._store.tasks(worker)
        ]
        return JSONResponse(tasks, headers=_HEADERS)

    def picture(self, request: Request) -> Response:
        worker, name = self._worker(request), request.path_params["name"]
        if worker is None or not self._store.may_see(worker, name):
            return _refused(404, "No such picture is shown under this link.")
        # Without the file's time: an item's pictures were written one editor after the other.
        headers = {**_HEADERS, "Cache-Control": "private, max-age=86400, immutable"}
        return Response((self._store.pictures / name).read_bytes(), 200, headers, "image/webp")

    async def answers(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                return _refused(413, "This is too long for an answer.")
        return await run_in_threadpool(self._answer, request, body)

    def _answer(self, request: Request, body: bytes) -> Response:
        worker = self._worker(request)
        if worker is None:
            return _refused(404, "This link is none of the study's.")
        try:
            answer = json.loads(body)
            task, picture = answer["task"], answer["picture"]
        except (ValueError, KeyError, TypeError, RecursionError):
            task = picture = None
        if type(task) is not int or not isinstance(picture, str):
            return _refused(400, 'Expected {"task": number, "picture": name}.')
        try:
            self._store.answer(worker, task, picture)
        except (NoSuchChoiceError, OverflowError, UnicodeEncodeError):
            return _refused(400, "No such picture is shown to you for this question.")
        return JSONResponse({"task": task, "picture": picture}, headers=_HEADERS)

    def _worker(self, request: Request) -> int | None:
        return self._store.worker(request.path_params["token"])


def _file(path: Path) -> Callable[[Request], Response]:
    content, media_type = path.read_bytes(), _MEDIA_TYPES[path.suffix]

    def answer(_: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return answer


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status, _HEADERS)


def _not_stored(_request: Request, error: Exception) -> Response:
    """A full disk, or a database that is held by another for long: the page tries again."""
    log.error("the study's database fails: %s", error)
    return _refused(503, "The answer could not be stored; try again.")

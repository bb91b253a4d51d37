"""A real HTTP server that speaks OpenAI's chat API and lies as a test tells it to."""

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import PIL.Image


@dataclass
class Answer:
    """What the server does with one request."""

    content: str | None = None
    status: int = 200
    error: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    hangs: bool = False
    drips: bool = False
    num_written: int | None = None
    model: str = "liar"
    refusal: str | None = None
    thoughts: str | None = None
    finish_reason: str = "stop"
    usage: bool = True
    delay: float = 0.0


@dataclass
class Seen:
    """A request as it came in."""

    body: dict[str, Any]
    at: float
    headers: dict[str, str]

    @property
    def prompt(self) -> str:
        """The texts of the first question, without what was said in between."""
        return prompt(self.body)

    @property
    def pictures(self) -> list[PIL.Image.Image]:
        """All pictures of the chat, out of their data URIs."""
        contents = [turn["content"] for turn in self.body["messages"]]
        parts = [part for content in contents if isinstance(content, list) for part in content]
        uris = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        return [
            PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(";base64,")[2])))
            for uri in uris
        ]


def prompt(body: dict[str, Any]) -> str:
    """The texts of a request's first user turn."""
    content = next(turn["content"] for turn in body["messages"] if turn["role"] == "user")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


class LyingServer:
    """Answers by `answer(request body, how often this question was seen before)`."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any], int], Answer] = lambda body, count: Answer("fine")
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._now = 0
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._released = threading.Event()
        lying = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                lying._handle(self, body)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *args: object) -> None:
                """Clients that give up are what is tested."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def prompts(self) -> list[str]:
        return [seen.prompt for seen in self.seen]

    def _handle(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self._lock:
            seen = Seen(body, time.monotonic(), dict(handler.headers))
            count = self._counts[seen.prompt]
            self._counts[seen.prompt] += 1
            self.seen.append(seen)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            answer = self.answer(body, count)
            time.sleep(answer.delay)
            if answer.hangs:
                self._released.wait(30)
                return
            self._send(handler, answer, body)
        finally:
            with self._lock:
                self._now -= 1

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer, body: dict[str, Any]) -> None:
        raw = answer.body
        if raw is None:
            content = {"error": answer.error} if answer.error else _completion(answer, body)
            raw = json.dumps(content).encode()
        handler.send_response(answer.status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(raw)))
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if answer.drips:
            for position in range(len(raw)):
                handler.wfile.write(raw[position : position + 1])
                handler.wfile.flush()
                if self._released.wait(0.05):
                    return
        handler.wfile.write(raw)


def _completion(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.content, "refusal": answer.refusal}
    if answer.thoughts is not None:
        message["reasoning_content"] = answer.thoughts
    content: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
    }
    if answer.usage:
        num_written = answer.num_written
        if num_written is None:
            is_whole = answer.finish_reason != "length"
            num_written = 40 if is_whole else body.get("max_tokens", 40)
        content["usage"] = {
            "prompt_tokens": 60,
            "completion_tokens": num_written,
            "total_tokens": 60 + num_written,
        }
    return content

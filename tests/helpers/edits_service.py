"""A real HTTP server that speaks OpenAI's `POST /images/edits`, and edits as a test tells it to."""

import base64
import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import PIL.Image

from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.evaluation.editors import Spec, load
from reasonray.evaluation.edits_server import EditsServer

RED, BLUE = (PIL.Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))


def png(picture: PIL.Image.Image = BLUE) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


@dataclass
class Form:
    """A request as it came in.

    Attributes:
        fields: the texts by name.
        files: names of the pictures' fields, and the pictures.
    """

    fields: dict[str, str]
    files: list[tuple[str, PIL.Image.Image]]


Reply = tuple[int, bytes]


def images(*entries: dict[str, Any]) -> Reply:
    return 200, json.dumps({"created": 1, "data": entries}).encode()


def blue() -> Reply:
    return images({"b64_json": base64.b64encode(png()).decode()})


def error(status: int, message: str, **fields: Any) -> Reply:
    return status, json.dumps({"error": {"message": message, **fields}}).encode()


class Service:
    """Answers each edit by its form.

    Attributes:
        answer: status and body of a form; status 0: the connection is closed.
        forms: what came in.
        file: what a GET is answered with.
        is_garbled: a GET is answered with that alone, without a status or a header.
    """

    def __init__(self) -> None:
        self.file, self.is_garbled = png(), False
        self.answer: Callable[[Form], Reply] = lambda form: blue()
        self.forms: list[Form] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                form = _form(self.headers["Content-Type"], body)
                service.forms.append(form)
                status, reply = service.answer(form)
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                self._send(status, reply)

            def do_GET(self) -> None:
                if service.is_garbled:
                    self.wfile.write(service.file)
                else:
                    self._send(200, service.file)

            def _send(self, status: int, reply: bytes) -> None:
                self.send_response(status)
                self.send_header("retry-after-ms", "1")
                self.send_header(
                    "Content-Type", "text/html" if reply[:1] == b"<" else "application/json"
                )
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _form(kind: str, body: bytes) -> Form:
    message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    form = Form({}, [])
    for part in cast(list[Message], message.get_payload()):
        name = cast(str, part.get_param("name", header="content-disposition"))
        content = cast(bytes, part.get_payload(decode=True))
        if part.get_filename():
            form.files.append((name, PIL.Image.open(io.BytesIO(content))))
        else:
            form.fields[name] = content.decode()
    return form


def editor_of(service: Service, *, retries: int = 8, **arguments: Any) -> EditsServer:
    """The editor b that asks it, with arguments of its requests."""
    config = EvaluationConfig(arguments={"b": arguments})
    editor = load(Spec("b", f"{service.url}#model-x"), config)
    assert isinstance(editor, EditsServer)
    editor._client = editor._client.with_options(max_retries=retries)  # noqa: SLF001  they wait
    return editor

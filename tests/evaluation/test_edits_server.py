"""Editors behind OpenAI's API, on a real server: whose fault a reply is, and what is sent."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import PIL.Image
import pytest

from reasonray.core.errors import RowError, RunError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.evaluation.editing import Editing
from reasonray.evaluation.editors import Spec, load
from reasonray.evaluation.edits_server import EditsServer
from reasonray.evaluation.items import Benchmark, Item, Picture

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
    """Answers each edit by its form; a GET is answered with a picture."""

    def __init__(self) -> None:
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
                self._send(200, png())

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


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def server(service: Service, *, retries: int = 8, **arguments: Any) -> EditsServer:
    config = EvaluationConfig(arguments={"b": arguments})
    editor = load(Spec("b", f"{service.url}#model-x"), config)
    assert isinstance(editor, EditsServer)
    editor._client = editor._client.with_options(max_retries=retries)  # noqa: SLF001  they wait
    return editor


def edited(editor: EditsServer, *texts: str) -> list[PIL.Image.Image | RowError]:
    return editor.edit([[RED]] * len(texts), texts, range(len(texts)))


def outcome(editor: EditsServer, *texts: str) -> list[str | None]:
    """Of each edit the reason why there is no picture."""
    return [each.reason if isinstance(each, RowError) else None for each in edited(editor, *texts)]


def test_all_pictures_of_an_edit_are_sent(service: Service) -> None:
    editor = server(service, quality="low")
    first, second = editor.edit([[RED], [RED, BLUE]], ["a", "b"], [2**31 + 5, 6])
    for picture in (first, second):
        assert isinstance(picture, PIL.Image.Image)
        assert picture.tobytes() == BLUE.tobytes()
    one, two = sorted(service.forms, key=lambda form: form.fields["prompt"])
    assert one.fields == {"prompt": "a", "model": "model-x", "quality": "low", "seed": "5"}
    assert [name for name, _ in one.files] == ["image"]
    assert [name for name, _ in two.files] == ["image[]"] * 2
    assert [p.convert("RGB").tobytes() for _, p in two.files] == [RED.tobytes(), BLUE.tobytes()]


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_what_a_server_does_not_take_is_a_failure_of_its_row(service: Service, status: int) -> None:
    service.answer = lambda form: (
        error(status, "the picture is too large") if form.fields["prompt"] == "b" else blue()
    )
    first, second = edited(server(service), "a", "b")
    assert isinstance(first, PIL.Image.Image)
    assert isinstance(second, RowError)
    assert second.reason == "refused"
    assert "the picture is too large" in second.detail


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_key_or_model_that_is_none_stops_it(service: Service, status: int) -> None:
    service.answer = lambda form: error(status, "not for you")
    with pytest.raises(RunError, match=r"editor b: .*not for you"):
        edited(server(service), "a")


@pytest.mark.parametrize("status", [500, 503, 0])
def test_a_server_that_fails_on_one_row_alone_fails_that_row(service: Service, status: int) -> None:
    def fails(*texts: str) -> None:
        service.answer = lambda form: (
            error(status, "overloaded") if form.fields["prompt"] in texts else blue()
        )

    editor = server(service, retries=1)
    fails("b")
    assert outcome(editor, "a", "b") == [None, "server_failed"]
    assert outcome(editor, "b") == ["server_failed"]  # others have gone well before
    fails("a", "b", "c")
    with pytest.raises(RunError, match="editor b: the server fails on every edit"):
        edited(editor, "a", "b", "c")
    with pytest.raises(RunError, match="editor b: the server fails on every edit"):
        edited(server(service, retries=1), "b")


def test_a_server_that_is_away_stops_it(service: Service) -> None:
    editor = server(service, retries=0)
    service.close()
    with pytest.raises(RunError, match="editor b: Connection error"):
        edited(editor, "a")


@pytest.mark.parametrize(
    "body", [b"<!doctype html><title>Sign in</title>", b'{"images": []}', b"[]", b'{"data": [1]}']
)
def test_a_reply_that_is_no_images_response_is_shown(service: Service, body: bytes) -> None:
    service.answer = lambda form: (200, body)
    with pytest.raises(RunError, match=r"editor b: .*/v1: expected an images response") as failure:
        edited(server(service), "a")
    assert body.decode() in str(failure.value)


@pytest.mark.parametrize("url", ["/files/1.png", "{server}/files/1.png"])
def test_a_picture_that_is_given_as_a_url_is_fetched(service: Service, url: str) -> None:
    service.answer = lambda form: images({"url": url.format(server=service.url)})
    [picture] = edited(server(service), "a")
    assert isinstance(picture, PIL.Image.Image)
    assert picture.tobytes() == BLUE.tobytes()


def test_the_instruction_that_a_server_wrote_first_comes_with_the_picture(
    service: Service,
) -> None:
    content = base64.b64encode(png()).decode()
    service.answer = lambda form: images(
        {"b64_json": content, "revised_prompt": f"clearly: {form.fields['prompt']}"}
    )
    [picture] = edited(server(service), "go")
    assert isinstance(picture, PIL.Image.Image)
    assert picture.info["revised_prompt"] == "clearly: go"


def test_a_picture_may_be_a_data_uri(service: Service) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    for key in ("b64_json", "url"):
        service.answer = lambda form, key=key: images({key: uri})  # type: ignore[misc]
        assert outcome(server(service), "a") == [None]


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ({"b64_json": None}, "neither b64_json nor url"),
        ({"b64_json": "no base64!"}, "no base64"),
        ({"b64_json": base64.b64encode(b"text").decode()}, "the reply: not a picture"),
        ({"url": "file:///etc/passwd"}, "none of a picture: file:"),
        ({"url": "http://127.0.0.1:1/x.png"}, "http://127.0.0.1:1/x.png: "),
    ],
)
def test_a_reply_without_a_picture_is_a_failure_of_its_row(
    service: Service, entry: dict[str, Any], detail: str
) -> None:
    service.answer = lambda form: images(entry)
    [failure] = edited(server(service), "a")
    assert isinstance(failure, RowError)
    assert failure.reason == "no_picture"
    assert detail in failure.detail


@pytest.mark.parametrize(
    ("message", "fields"),
    [("Unknown parameter: 'seed'.", {"param": "seed"}), ("unexpected field: seed", {})],
)
def test_a_server_that_takes_no_seed_is_asked_without(
    service: Service, message: str, fields: dict[str, Any]
) -> None:
    service.answer = lambda form: error(400, message, **fields) if "seed" in form.fields else blue()
    editor = server(service)
    assert outcome(editor, "a", "b") == [None, None]
    assert editor.notices == ["requests are taken without seed"]
    num_before = len(service.forms)
    assert outcome(editor, "a") == [None]
    assert len(service.forms) == num_before + 1
    # Whoever has set one themselves is told.
    assert outcome(server(service, seed=3), "a") == ["refused"]


def test_a_server_that_refuses_all_alike_stops_before_that_counts(
    service: Service, tmp_path: Path
) -> None:
    service.answer = lambda form: error(400, "Unknown parameter: 'quality'.")
    RED.save(tmp_path / "a.png")
    picture = Picture(str(tmp_path / "a.png"))
    items = [Item(name, "", "en", (picture,), "go") for name in "abc"]
    edit = Editing(server(service), "b", session=1, seed=0, timeout_s=20)
    with pytest.raises(RunError, match=r"3 rows failed alike.*Unknown parameter: 'quality'"):
        edit(cast(Benchmark, None), items, tmp_path / "c.parquet")
    assert not (tmp_path / "c.parquet").exists()

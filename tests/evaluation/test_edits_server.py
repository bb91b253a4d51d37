"""Editors behind OpenAI's API, on a real server: whose fault a reply is, and what is sent."""

import base64
from collections.abc import Iterator
from typing import Any

import PIL.Image
import pytest
from edits_service import BLUE, RED, Service, blue, editor_of, error, images, png

from reasonray.core.errors import RowError, RunError
from reasonray.evaluation import edits_server
from reasonray.evaluation.edits_server import EditsServer


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def edited(editor: EditsServer, *texts: str) -> list[PIL.Image.Image | RowError]:
    return editor.edit([[RED]] * len(texts), texts, range(len(texts)))


def outcome(editor: EditsServer, *texts: str) -> list[str | None]:
    """Of each edit the reason why there is no picture."""
    return [each.reason if isinstance(each, RowError) else None for each in edited(editor, *texts)]


def test_all_pictures_of_an_edit_are_sent(service: Service) -> None:
    editor = editor_of(service, quality="low")
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
    first, second = edited(editor_of(service), "a", "b")
    assert isinstance(first, PIL.Image.Image)
    assert isinstance(second, RowError)
    assert second.reason == "refused"
    assert "the picture is too large" in second.detail


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_key_or_model_that_is_none_stops_it(service: Service, status: int) -> None:
    service.answer = lambda form: error(status, "not for you")
    with pytest.raises(RunError, match=r"editor b: .*not for you"):
        edited(editor_of(service), "a")


@pytest.mark.parametrize("status", [408, 500, 503, 0])
def test_what_a_server_fails_on_is_a_failure_of_its_row(service: Service, status: int) -> None:
    service.answer = lambda form: (
        error(status, "overloaded") if form.fields["prompt"] == "b" else blue()
    )
    assert outcome(editor_of(service, retries=1), "a", "b") == [None, "server_failed"]


def test_a_server_that_is_away_stops_it(service: Service) -> None:
    editor = editor_of(service, retries=0)
    service.close()
    with pytest.raises(RunError, match="editor b: Connection error"):
        edited(editor, "a")


@pytest.mark.parametrize(
    "body", [b"<!doctype html><title>Sign in</title>", b'{"images": []}', b"[]", b'{"data": [1]}']
)
def test_a_reply_that_is_no_images_response_is_shown(service: Service, body: bytes) -> None:
    service.answer = lambda form: (200, body)
    with pytest.raises(RunError, match=r"editor b: .*/v1: expected an images response") as failure:
        edited(editor_of(service), "a")
    assert body.decode() in str(failure.value)


def test_a_reply_that_is_nested_without_end_is_no_images_response(service: Service) -> None:
    service.answer = lambda form: (200, b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(
        RunError, match=r"expected an images response .* begins with '{\"data\": \[\["
    ):
        edited(editor_of(service), "a")


@pytest.mark.parametrize("url", ["/files/1.png", "{server}/files/1.png"])
def test_a_picture_that_is_given_as_a_url_is_fetched(service: Service, url: str) -> None:
    service.answer = lambda form: images({"url": url.format(server=service.url)})
    [picture] = edited(editor_of(service), "a")
    assert isinstance(picture, PIL.Image.Image)
    assert picture.tobytes() == BLUE.tobytes()


def test_the_instruction_that_a_server_wrote_first_comes_with_the_picture(
    service: Service,
) -> None:
    content = base64.b64encode(png()).decode()
    service.answer = lambda form: images(
        {"b64_json": content, "revised_prompt": f"clearly: {form.fields['prompt']}"}
    )
    [picture] = edited(editor_of(service), "go")
    assert isinstance(picture, PIL.Image.Image)
    assert picture.info["revised_prompt"] == "clearly: go"


def test_a_picture_may_be_a_data_uri(service: Service) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    for key in ("b64_json", "url"):
        service.answer = lambda form, key=key: images({key: uri})  # type: ignore[misc]
        assert outcome(editor_of(service), "a") == [None]


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ({"b64_json": None}, "neither b64_json nor url"),
        ({"b64_json": 7, "url": ["/files/1.png"]}, "neither b64_json nor url"),
        ({"b64_json": {"data": "x"}, "url": 7}, "neither b64_json nor url"),
        ({"b64_json": "no base64!"}, "no base64"),
        ({"b64_json": base64.b64encode(b"text").decode()}, "the reply: not a picture"),
        ({"url": "file:///etc/passwd"}, "none of a picture: file:"),
        ({"url": "http://127.0.0.1:1/x.png"}, "http://127.0.0.1:1/x.png: "),
        ({"url": "http://["}, "the reply's url http://[: "),
        ({"url": "http://127.0.0.1/\x01.png"}, "can't contain control characters"),
        ({"url": f"http://{'a' * 64}.org/"}, f"http://{'a' * 64}.org/: "),
        ({"url": "data:image/png"}, "data:image/png: "),
    ],
)
def test_a_reply_without_a_picture_is_a_failure_of_its_row(
    service: Service, entry: dict[str, Any], detail: str
) -> None:
    service.answer = lambda form: images(entry)
    [failure] = edited(editor_of(service), "a")
    assert isinstance(failure, RowError)
    assert failure.reason == "no_picture"
    assert detail in failure.detail


@pytest.mark.parametrize(
    "raw", [b"\x00\x01\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"]
)
def test_a_url_that_is_answered_with_no_http_is_a_failure_of_its_row(
    service: Service, raw: bytes
) -> None:
    service.file, service.is_garbled = raw, True
    service.answer = lambda form: images({"url": "/files/1.png"})
    [failure] = edited(editor_of(service), "a")
    assert isinstance(failure, RowError)
    assert failure.reason == "no_picture"
    assert "/files/1.png: " in failure.detail


def test_a_url_is_read_no_further_than_a_picture_may_be_long(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answer = lambda form: images({"url": "/files/1.png"})
    monkeypatch.setattr(edits_server, "_MAX_BYTES", len(png()))
    assert outcome(editor_of(service), "a") == [None]
    monkeypatch.setattr(edits_server, "_MAX_BYTES", len(png()) - 1)
    # Whoever reads on misses what was announced.
    service.file = b"HTTP/1.0 200 OK\r\ncontent-length: 1000000000\r\n\r\n" + png()
    service.is_garbled = True
    [failure] = edited(editor_of(service), "a")
    assert isinstance(failure, RowError)
    assert failure.reason == "no_picture"
    assert failure.detail.endswith(f"/files/1.png: of over {len(png()) - 1} bytes")


@pytest.mark.parametrize("key", ["b64_json", "url"])
def test_a_picture_of_too_many_pixels_is_not_unpacked(
    service: Service, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    value = {"b64_json": base64.b64encode(png()).decode(), "url": "/files/1.png"}[key]
    service.answer = lambda form: images({key: value})
    monkeypatch.setattr(edits_server, "_MAX_PIXELS", 16)
    assert outcome(editor_of(service), "a") == [None]
    monkeypatch.setattr(edits_server, "_MAX_PIXELS", 15)
    [failure] = edited(editor_of(service), "a")
    assert isinstance(failure, RowError)
    assert failure.reason == "no_picture"
    assert "pixels" in failure.detail


@pytest.mark.parametrize(
    ("message", "fields"),
    [("Unknown parameter: 'seed'.", {"param": "seed"}), ("unexpected field: seed", {})],
)
def test_a_server_that_takes_no_seed_is_asked_without(
    service: Service, message: str, fields: dict[str, Any]
) -> None:
    service.answer = lambda form: error(400, message, **fields) if "seed" in form.fields else blue()
    editor = editor_of(service)
    assert outcome(editor, "a", "b") == [None, None]
    assert editor.notices == ["requests are taken without seed"]
    num_before = len(service.forms)
    assert outcome(editor, "a") == [None]
    assert len(service.forms) == num_before + 1
    # Whoever has set one themselves is told.
    assert outcome(editor_of(service, seed=3), "a") == ["refused"]

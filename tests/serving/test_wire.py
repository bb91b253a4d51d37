import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from form_parts import multipart, picture
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from reasonray.serving import wire
from reasonray.serving.errors import ApiError
from reasonray.serving.schema import FIELDS, SCALARS
from reasonray.serving.wire import EditForm

IMAGE = ("image", picture())
PROMPT = ("prompt", "Show what it makes instead.")


def form(*parts: tuple[str, str | bytes]) -> EditForm:
    return wire.checked([IMAGE, PROMPT, *parts])


def refused(*parts: tuple[str, str | bytes], bare: bool = False) -> ApiError:
    with pytest.raises(ApiError) as error:
        wire.checked(parts if bare else [IMAGE, PROMPT, *parts])
    assert error.value.status == 400
    return error.value


def read(headers: dict[str, str], body: bytes, piece: int = 1000, limit: int = 10**6) -> EditForm:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    return asyncio.run(wire.read_form(Headers(headers), pieces(), limit))


def test_what_is_not_said_has_openai_s_defaults() -> None:
    plain = form()
    assert (plain.n, plain.size, plain.format, plain.compression) == (1, "auto", "png", 100)
    assert not plain.stream
    assert plain.num_partials == 0
    assert (plain.model, plain.mask, plain.num_inference_steps) == (None, None, None)
    assert {form().seed for _ in range(5)} != {plain.seed}


def test_every_field_is_read() -> None:
    full = form(
        ("model", "mini"), ("n", "3"), ("size", "96x64"), ("output_format", "webp"),
        ("output_compression", "80"), ("response_format", "b64_json"), ("stream", "false"),
        ("partial_images", "0"), ("background", "opaque"), ("quality", "auto"), ("seed", "7"),
        ("num_inference_steps", "12"), ("guidance_scale", "7.5"), ("image_guidance_scale", "0"),
        ("user", "somebody"), ("safety_identifier", ""), ("mask", b"a mask"),
    )  # fmt: skip
    assert full == EditForm(
        image=IMAGE[1], mask=b"a mask", mask_field="mask", prompt=PROMPT[1], model="mini", n=3,
        size="96x64", format="webp", compression=80, stream=False, num_partials=0, seed=7,
        num_inference_steps=12, guidance_scale=7.5, image_guidance_scale=0.0,
    )  # fmt: skip
    stream = form(("stream", "True"), ("partial_images", "3"))
    assert (stream.stream, stream.num_partials) == (True, 3)


def test_the_fields_are_those_of_the_description() -> None:
    read_fields = {*SCALARS, *wire.FILES} - {"image[]"}
    assert read_fields == set(FIELDS)


@pytest.mark.parametrize("name", ["image", "image[]"])
def test_the_picture_has_both_of_openai_s_names(name: str) -> None:
    assert wire.checked([(name, b"picture"), PROMPT]).image == b"picture"


@pytest.mark.parametrize(
    ("parts", "param", "code"),
    [
        ([PROMPT], "image", "missing_required_parameter"),
        ([IMAGE], "prompt", "missing_required_parameter"),
        ([IMAGE, IMAGE, PROMPT], "image", "invalid_value"),
        ([("image", b"1"), ("image[]", b"2"), PROMPT], "image", "invalid_value"),
        ([("image[]", b"1"), ("image[]", b"2"), PROMPT], "image", "invalid_value"),
        ([("image", "text"), PROMPT], "image", "invalid_value"),
        ([IMAGE, ("prompt", b"a file")], "prompt", "invalid_value"),
    ],
)
def test_exactly_one_picture_and_a_prompt(parts: Any, param: str, code: str) -> None:
    error = refused(*parts, bare=True)
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize(
    "prompt", ["", "   \n", "a\0b", "a\x1bb", "\x7f", "\x85", "x" * 4001, "\ufffd", "a\rb"]
)
def test_a_prompt_that_cannot_be_meant_is_refused(prompt: str) -> None:
    assert refused(IMAGE, ("prompt", prompt), bare=True).param == "prompt"


@pytest.mark.parametrize("prompt", ["x" * 4000, "two\nlines\tand\nmore", "蜂を蜂蜜に 🐝"])
def test_any_other_is_taken_as_it_is(prompt: str) -> None:
    assert wire.checked([IMAGE, ("prompt", prompt)]).prompt == prompt


def test_a_line_s_end_is_the_same_from_a_browser() -> None:
    assert wire.checked([IMAGE, ("prompt", "two\r\nlines")]).prompt == "two\nlines"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("n", ["0", "11", "1.0", "one", "", " 1", "-1", "１", "1_0", "9" * 30]),
        ("size", ["", "big", "0x10", "96x96x96", "-1x5", "96X96", "1e3x10"]),
        ("output_format", ["gif", "svg", "jpg", ""]),
        ("output_compression", ["-1", "101", "50.5", "90"]),  # 90: the format is png
        ("response_format", ["url", ""]),
        ("stream", ["yes", "1", "", "null"]),
        ("partial_images", ["4", "-1", "2"]),  # 2: there is no stream
        ("background", ["transparent", ""]),
        ("quality", ["high", "standard"]),
        ("seed", ["-1", str(2**63), "1e5", "nan"]),
        ("num_inference_steps", ["0", "101", "12.0"]),
        ("guidance_scale", ["nan", "inf", "-inf", "0.9", "31", "1_0", "７", ".", "0x5", "1e999"]),
        ("image_guidance_scale", ["-0.1", "10.1", "NaN", ""]),
        ("model", [""]),
    ],
)
def test_a_wrong_value_is_refused_by_its_field_s_name(name: str, values: list[str]) -> None:
    for value in values:
        error = refused((name, value))
        assert (error.param, error.code) == (name, "invalid_value"), value
        assert name in error.message


@given(st.text() | st.floats().map(str))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        scale = form(("guidance_scale", text)).guidance_scale
    except ApiError:
        scale = None
    assert scale is None or 1 <= scale <= 30
    assert scale is not None or refused(("guidance_scale", text)).param == "guidance_scale"


@pytest.mark.parametrize(
    "name",
    ["input_fidelity", "markup", "svg[model]", "complexity", "frame_count", "negative_prompt",
     "strength", "url", "nonsense", "", "x" * 500, "Prompt", "prompt[]", "mask[]", "lora[0]"],
)  # fmt: skip
def test_what_has_no_meaning_is_refused_by_name(name: str) -> None:
    for value in ("high", b"a file"):
        error = refused((name, value))
        assert (error.param, error.code) == (name[:100], "unsupported_parameter")


@pytest.mark.parametrize("name", [*sorted(SCALARS - {"prompt"}), "mask", "mask_image"])
def test_nothing_is_said_twice(name: str) -> None:
    value = b"mask" if name.startswith("mask") else "1"
    assert refused((name, value), (name, value)).code == "duplicate_parameter"


def test_two_kinds_of_mask_are_no_mask() -> None:
    assert refused(("mask", b"1"), ("mask_image", b"2")).param == "mask_image"
    assert form(("mask_image", b"2")).mask_field == "mask_image"


def test_all_pictures_of_one_request_have_a_seed() -> None:
    assert form(("n", "10"), ("seed", str(2**63 - 10))).seed == 2**63 - 10
    assert refused(("n", "10"), ("seed", str(2**63 - 9))).param == "seed"


def test_a_stream_is_of_one_picture() -> None:
    assert refused(("n", "2"), ("stream", "true")).param == "n"


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_a_form_is_read_however_it_is_cut_into_pieces(piece: int) -> None:
    headers, body = multipart(
        [("image[]", ("upload", IMAGE[1], "application/octet-stream"))],
        {"prompt": "make it 🐝", "n": 2, "seed": 5},
    )
    got = read(headers, body, piece)
    assert (got.image, got.prompt, got.n, got.seed) == (IMAGE[1], "make it 🐝", 2, 5)


def test_a_large_picture_does_not_touch_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile._get_default_tempdir", lambda *_: pytest.fail("on the disk"))
    monkeypatch.setattr("tempfile.tempdir", None)
    large = bytes(3_000_000)
    headers, body = multipart([("image", ("a.png", large, "image/png"))], {"prompt": "x"})
    assert read(headers, body, 65_536, 10**7).image == large


def test_a_page_s_empty_file_input_is_nothing() -> None:
    headers, body = multipart(
        [("image", ("a.png", IMAGE[1], "image/png")), ("mask", ("m.png", b"", "image/png"))],
        {"prompt": "x"},
    )
    assert read(headers, body).mask == b""
    assert read(headers, body.replace(b'filename="m.png"', b'filename=""')).mask is None


def typed(headers: dict[str, str], kind: str) -> dict[str, str]:
    return {**headers, "content-type": kind}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda h, b: (typed(h, "application/json"), b"{}"), 415, "unsupported_media_type"),
        (lambda h, b: (typed(h, ""), b), 415, "unsupported_media_type"),
        (lambda h, b: (typed(h, "multipart/form-data"), b), 400, "invalid_multipart"),
        (lambda h, b: (typed(h, "multipart/form-data; boundary=x"), b), 400, "invalid_multipart"),
        (lambda h, b: (h, b[:-10]), 400, "invalid_multipart"),
        (lambda h, b: (h, b[:200]), 400, "invalid_multipart"),
        (lambda h, b: (h, b""), 400, "invalid_multipart"),
        (lambda h, b: (h, b"\0" * 100), 400, "invalid_multipart"),
        (lambda h, b: (h, b.replace(b'name="image"', b"")), 400, "invalid_multipart"),
        (lambda h, b: (h, b + bytes(10**6)), 413, "request_too_large"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_form_is_refused(change: Any, status: int, code: str) -> None:
    headers, body = multipart([("image", ("a.png", IMAGE[1], "image/png"))], {"prompt": "x"})
    with pytest.raises(ApiError) as error:
        read(*change(headers, body))
    assert (error.value.status, error.value.code) == (status, code)


def test_too_many_fields_are_refused() -> None:
    headers, body = multipart([("image", ("a", b"1", "image/png"))] * 500, {})
    with pytest.raises(ApiError) as error:
        read(headers, body)
    assert error.value.code == "invalid_multipart"


def test_replies_and_events_are_openai_s() -> None:
    from openai.types import ImageEditCompletedEvent, ImageEditPartialImageEvent, ImagesResponse

    answer = ImagesResponse.model_validate_json(wire.reply([b"one", b"two"], form(), (48, 32)))
    assert [base64.b64decode(each.b64_json or "") for each in answer.data or []] == [b"one", b"two"]
    assert (answer.size, answer.output_format, answer.background) == ("48x32", "png", "opaque")
    assert answer.model_extra is not None
    assert answer.model_extra["seed"] >= 0
    stream = form(("stream", "true"), ("seed", "9"))
    for event, kind in (
        (wire.partial_event(b"p", 1, stream, (48, 32)), ImageEditPartialImageEvent),
        (wire.completed_event(b"c", stream, (48, 32)), ImageEditCompletedEvent),
    ):
        name, data, *rest = event.decode().split("\n")
        assert rest == ["", ""]
        content = json.loads(data.removeprefix("data: "))
        assert name == f"event: {content['type']}"
        kind.model_validate(content, strict=True)


def test_an_error_survives_the_way_between_processes() -> None:
    import pickle

    error = ApiError(429, "server_busy", "full", "n", {"Retry-After": "3"})
    back = pickle.loads(pickle.dumps(error))
    assert (back.content(), back.status, back.headers) == (error.content(), 429, error.headers)

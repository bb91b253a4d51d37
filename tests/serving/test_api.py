"""The API with a real editor behind a real HTTP server, through the official client."""

import asyncio
import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import PIL.Image
import pytest
from bad_requests import BAD, URL, Bad
from form_parts import encoded, openai_mask, photograph, picture, white_mask
from local_editors import LocalEditors, api
from local_server import raw
from served_editor import SIDE, STEPS, editor_folder
from serving_editor import paced

from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.editor import Editor
from reasonray.serving.keys import new_key
from reasonray.serving.mark import SOURCE_TYPE

pytestmark = pytest.mark.slow

PROMPT = "Show what it makes instead."
SIZE = (80, 56)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return editor_folder(tmp_path_factory.mktemp("served") / "editor")


def settings(folder: Path, **changes: Any) -> ServingConfig:
    models = {"tiny": ServedModel(editor=str(folder))}
    return ServingConfig(**{"models": models, "anonymous": True, **changes})


@pytest.fixture(scope="module")
def editors(folder: Path) -> LocalEditors:
    config = settings(folder)
    plain: Any = Editor
    return LocalEditors({"tiny": plain.func_or_class(config.models["tiny"], config)})


@pytest.fixture(scope="module")
def port(folder: Path, editors: LocalEditors) -> Iterator[int]:
    with api(editors, settings(folder)) as port:
        yield port


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as it:
        yield it


def shown(data: str | None) -> PIL.Image.Image:
    assert data is not None
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


def pixels(data: str | bytes | None) -> np.ndarray:
    image = PIL.Image.open(io.BytesIO(data)) if isinstance(data, bytes) else shown(data)
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    "image",
    [
        picture(SIZE),
        ("name.jpg", picture(SIZE)),
        [picture(SIZE)],
        [("a.png", io.BytesIO(picture(SIZE)), "text/plain")],
    ],
)
def test_the_official_client_edits(client: openai.OpenAI, image: Any) -> None:
    reply = client.images.edit(image=image, prompt=PROMPT)
    assert reply.data is not None
    [only] = reply.data
    edited = shown(only.b64_json)
    assert (edited.format, edited.size) == ("PNG", SIZE)
    assert (reply.size, reply.output_format) == ("80x56", "png")
    assert SOURCE_TYPE in edited.info["XML:com.adobe.xmp"]
    assert not np.array_equal(np.asarray(edited), pixels(picture(SIZE)))


@pytest.mark.parametrize("prompt", ["x", "make it so. " * 333, "蜂を蜂蜜に\n🐝" * 400])
def test_any_prompt_within_the_limit_is_edited(client: openai.OpenAI, prompt: str) -> None:
    assert client.images.edit(image=picture(SIZE), prompt=prompt).data


def test_every_field_that_openai_names_is_obeyed_or_refused(client: openai.OpenAI) -> None:
    reply = client.images.edit(
        image=picture(SIZE), mask=openai_mask(SIZE, (0, 0, 40, 40)), prompt=PROMPT, n=2,
        model="tiny", size="32x32", output_format="webp", output_compression=50,
        background="auto", quality="auto", response_format="b64_json", user="me",
        safety_identifier="me", extra_body={"seed": 3, "num_inference_steps": 2},
    )  # fmt: skip
    assert reply.data is not None
    assert [shown(each.b64_json).size for each in reply.data] == [(32, 32)] * 2
    assert [shown(each.b64_json).format for each in reply.data] == ["WEBP"] * 2
    assert reply.model_extra == {"seed": 3}


def test_the_seed_that_was_drawn_gives_the_same_pictures(client: openai.OpenAI) -> None:
    first = client.images.edit(image=picture(SIZE), prompt=PROMPT, n=2)
    seed = (first.model_extra or {})["seed"]
    again = client.images.edit(image=picture(SIZE), prompt=PROMPT, n=2, extra_body={"seed": seed})
    second = client.images.edit(image=picture(SIZE), prompt=PROMPT, extra_body={"seed": seed + 1})
    a, b = ([pixels(each.b64_json) for each in reply.data or []] for reply in (first, again))
    assert all(np.abs(x.astype(int) - y).max() <= 1 for x, y in zip(a, b, strict=True))
    assert np.abs(a[1].astype(int) - pixels((second.data or [])[0].b64_json)).max() <= 1
    assert np.abs(a[0].astype(int) - a[1]).max() > 1


def test_a_stream_has_partial_pictures_and_the_same_end(client: openai.OpenAI) -> None:
    options: Any = {"image": picture(SIZE), "prompt": PROMPT, "extra_body": {"seed": 5}}
    whole = client.images.edit(**options)
    events = list(client.images.edit(**options, stream=True, partial_images=2))
    assert [each.type for each in events] == [
        "image_edit.partial_image", "image_edit.partial_image", "image_edit.completed",
    ]  # fmt: skip
    assert [each.partial_image_index for each in events[:2]] == [0, 1]
    assert {each.size for each in events} == {"80x56"}
    end = pixels((whole.data or [])[0].b64_json).astype(int)
    assert np.abs(pixels(events[2].b64_json) - end).max() <= 1
    assert len({each.b64_json for each in events}) == 3
    completed: Any = events[2]
    assert (completed.usage.total_tokens, completed.seed) == (0, 5)


def test_the_asynchronous_client_edits_and_streams(port: int) -> None:
    async def work() -> tuple[Any, list[str]]:
        async with openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none"
        ) as client:
            options: Any = {"image": picture(SIZE), "prompt": PROMPT}
            replies = await asyncio.gather(*(client.images.edit(**options) for _ in range(5)))
            stream = await client.images.edit(**options, stream=True, partial_images=1)
            return replies, [event.type async for event in stream]

    replies, kinds = asyncio.run(work())
    assert len({reply.model_extra["seed"] for reply in replies}) == 5
    assert kinds == ["image_edit.partial_image", "image_edit.completed"]


def test_a_stream_on_the_wire(port: int) -> None:
    answer = httpx.post(
        f"http://127.0.0.1:{port}{URL}",
        files={"image": picture(SIZE)}, data={"prompt": "x", "stream": "true"}, timeout=60,
    )  # fmt: skip
    assert answer.headers["content-type"].startswith("text/event-stream")
    event, end, rest = answer.text.split("\n\n")
    assert event.startswith("event: image_edit.completed\ndata: {")
    assert (end, rest) == ("data: [DONE]", "")


def test_diffusers_mask_is_white_where_the_picture_may_change(port: int) -> None:
    box = (40, 0, 80, 56)
    files = {"image": picture(SIZE), "mask_image": white_mask(SIZE, box)}
    answer = httpx.post(
        f"http://127.0.0.1:{port}{URL}", files=files, data={"prompt": PROMPT}, timeout=60
    )
    difference = pixels(answer.json()["data"][0]["b64_json"]).astype(int) - pixels(picture(SIZE))
    assert not difference[:, :40].any()
    assert np.abs(difference[:, 40:]).mean() > 5


@pytest.mark.parametrize("format", ["png", "webp"])
def test_a_photograph_of_two_megapixels_keeps_its_size_and_all_outside_the_mask(
    client: openai.OpenAI, format: Any
) -> None:
    size, box = (1734, 1156), (1500, 1000, 1734, 1156)  # to the border, in a corner
    photo = encoded(photograph(size), "JPEG", quality=92)
    reply = client.images.edit(
        image=photo, mask=openai_mask(size, box), prompt=PROMPT, output_format=format
    )
    data = (reply.data or [])[0].b64_json
    source, edited = pixels(photo), pixels(data)
    assert edited.shape == (1156, 1734, 3)
    outside = np.ones((1156, 1734), np.bool_)
    outside[box[1] : box[3], box[0] : box[2]] = False
    assert np.array_equal(edited[outside], source[outside])
    inside = np.abs(edited[~outside].astype(int) - source[~outside])
    assert inside.mean() > 5
    # Up to the very corner.
    assert np.abs(edited[-8:, -8:].astype(int) - source[-8:, -8:]).max() > 0


def error_of(answer: httpx.Response) -> dict[str, Any]:
    content = answer.json()
    assert set(content) == {"error"}
    assert set(content["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["content-type"] == "application/json"
    return content["error"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_what_is_wrong_is_told_in_openai_s_words(port: int, bad: Bad) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        answer = http.request(bad.method, bad.path, **bad.sent)
        error = error_of(answer)
        assert (answer.status_code, error["code"], error["param"]) == (
            bad.status,
            bad.code,
            bad.param,
        )
        assert error["type"] == "invalid_request_error"
        assert "Traceback" not in answer.text
        assert http.get("/healthz").json() == {"status": "ok"}


def test_there_are_forty_of_them() -> None:
    assert len(BAD) >= 40
    assert len({bad.name for bad in BAD}) == len(BAD)


def test_the_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.edit(image=picture(), prompt=PROMPT, quality="high")
    assert (bad.value.code, bad.value.param, bad.value.type) == (
        "invalid_value", "quality", "invalid_request_error",
    )  # fmt: skip
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.edit(image=picture(), prompt=PROMPT, model="gpt-image-2")
    assert "tiny" in missing.value.message


def test_the_models_say_what_they_take(client: openai.OpenAI) -> None:
    [model] = client.models.list()
    assert (model.id, model.object) == ("tiny", "model")
    extra = client.models.retrieve("tiny").model_extra or {}
    assert extra["sizes"][:2] == ["auto", f"{SIDE}x{SIDE}"]
    assert extra["num_inference_steps"] == STEPS


def test_the_rest_of_the_addresses(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        assert http.get("/readyz").json() == {"status": "ready"}
        page = http.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for answer in (page, http.get("/v1/models"), http.get("/nothing")):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in answer.headers
        assert http.get(URL).headers["allow"] == "POST"
        described = http.get("/openapi.json").json()["paths"][URL]["post"]
        form = described["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["required"] == ["image", "prompt"]
        assert "guidance_scale" in form["properties"]


def test_an_edit_that_nobody_waits_for_any_more_is_given_up(
    port: int, editors: LocalEditors
) -> None:
    before = editors.closed
    answer = httpx.post(
        f"http://127.0.0.1:{port}{URL}",
        files={"image": picture((32, 32))}, data={"prompt": "x", "num_inference_steps": "100"},
        headers={"x-stainless-read-timeout": "0.3"}, timeout=60,
    )  # fmt: skip
    assert (answer.status_code, error_of(answer)["code"]) == (504, "timeout")
    assert answer.headers["x-should-retry"] == "false"
    assert editors.closed > before
    engine = editors.editors["tiny"].engine
    for _ in range(100):
        if not engine.num_running + engine.num_waiting:
            return
        time.sleep(0.05)
    pytest.fail("the model still works on it")


def test_a_client_who_leaves_a_stream_frees_the_model(port: int, editors: LocalEditors) -> None:
    engine = editors.editors["tiny"].engine
    unet = paced(engine.pipeline, 30)  # of 100 steps, of which a partial picture comes after 25
    fields = {"prompt": "x", "stream": "true", "partial_images": "3", "num_inference_steps": "100"}
    before = editors.closed
    try:
        with httpx.stream(
            "POST", f"http://127.0.0.1:{port}{URL}",
            files={"image": picture()}, data=fields, timeout=60,
        ) as answer:  # fmt: skip
            assert next(answer.iter_lines()).startswith("event: image_edit.partial_image")
        while editors.closed == before:
            time.sleep(0.01)
        unet.let(100)
        while engine.num_running:
            time.sleep(0.01)
        assert len(unet.batches) <= 31
    finally:
        engine.pipeline.unet = unet.unet


def test_without_a_key_nothing_is_read(folder: Path, editors: LocalEditors, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = new_key(file, "anna")
    config = settings(folder, keys=str(file), anonymous=False, requests_per_minute=2)
    with api(editors, config) as port:
        head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n"
        for wrong in ("", "Authorization: Bearer wrong\r\n"):
            answer = raw(port, f"{head}{wrong}\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 401 ")  # and not 408, as where it is waited for
            assert b"www-authenticate: Bearer" in answer
        options: Any = {"base_url": f"http://127.0.0.1:{port}/v1", "max_retries": 0}
        with openai.OpenAI(**options, api_key="wrong") as stranger:
            for call in (stranger.models.list, lambda: stranger.models.retrieve("tiny")):
                with pytest.raises(openai.AuthenticationError):
                    call()
        with openai.OpenAI(**options, api_key=key) as anna:
            assert anna.models.list().data
            for _ in range(2):
                anna.images.edit(image=picture(), prompt=PROMPT)
            with pytest.raises(openai.RateLimitError) as limit:
                anna.images.edit(image=picture(), prompt=PROMPT)
            assert limit.value.code == "rate_limit_exceeded"
            assert 0 < int(limit.value.response.headers["retry-after"]) <= 30
        described = httpx.get(f"http://127.0.0.1:{port}/openapi.json").json()
        assert described["paths"][URL]["post"]["security"]
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200

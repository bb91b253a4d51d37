"""One service as `reasonray serve` starts it, on Ray Serve, for all tests of this file.

With Ray, as the proxy, the guard in it, two ingress processes and the editor's have to work
together; what each does alone is tested without.
"""

import base64
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import PIL.Image
import psutil
import pytest
from bad_requests import BAD, URL
from dashboards import expressions, never_told, requirements
from form_parts import openai_mask, picture
from local_server import raw
from one_cluster import ROOT
from served_app import Served, served
from served_editor import editor_folder

pytestmark = pytest.mark.ray

SECRET = "Something that nobody writes down"
SIZE = (80, 56)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Ended by Ctrl-C, as one at a terminal is."""
    with served(editor_folder(tmp_path_factory.mktemp("app") / "tiny")) as service:
        yield service
        everybody = psutil.Process(service.process.pid).children(recursive=True)
        assert service.stop() == 0
        assert service.lines[-1] == "stopping\n"
        _, left = psutil.wait_procs(everybody, timeout=30)
        assert left == []


@pytest.fixture
def client(service: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{service.url}/v1", api_key=service.key, max_retries=0, timeout=120
    ) as client:
        yield client


def pixels(data: Any) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_it_says_where_it_is(service: Served) -> None:
    assert service.lines[-1].startswith(
        f"ready: {service.url} (page), {service.url}/v1 for the openai client"
    )
    assert httpx.get(service.url).headers["content-type"].startswith("text/html")
    assert httpx.get(f"{service.url}/readyz").json() == {"status": "ready"}


def test_edits_masks_and_streams(client: openai.OpenAI) -> None:
    source = picture(SIZE)
    options: Any = {"image": source, "prompt": SECRET, "extra_body": {"seed": 7}}
    reply = client.images.edit(**options, mask=openai_mask(SIZE, (40, 0, 80, 56)), n=2)
    assert reply.model_extra == {"seed": 7}
    for each in reply.data or []:
        difference = pixels(each.b64_json).astype(int) - pixels(base64.b64encode(source))
        assert not difference[:, :40].any()
        assert np.abs(difference[:, 40:]).mean() > 5
    whole = client.images.edit(**options, output_format="webp")
    *partial, last = client.images.edit(
        **options, output_format="webp", stream=True, partial_images=2
    )
    assert [each.type for each in partial] == ["image_edit.partial_image"] * 2
    ends = [pixels((whole.data or [])[0].b64_json), pixels(last.b64_json)]
    assert np.abs(ends[0].astype(int) - ends[1]).max() <= 1


def test_several_clients_at_once_are_all_answered(client: openai.OpenAI) -> None:
    def edit(number: int) -> np.ndarray:
        reply = client.images.edit(image=picture(SIZE), prompt="x", extra_body={"seed": number % 3})
        return pixels((reply.data or [])[0].b64_json).astype(int)

    with ThreadPoolExecutor(8) as pool:
        edited = list(pool.map(edit, range(12)))
    for number, each in enumerate(edited):
        assert np.abs(each - edited[number % 3]).max() <= 1


def test_what_is_wrong_is_told_in_json_and_harms_nobody(service: Served) -> None:
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.url, timeout=60) as http:
        for bad in BAD:
            sent = {**bad.sent, "headers": {**headers, **bad.sent.get("headers", {})}}
            answer = http.request(bad.method, bad.path, **sent)
            error = answer.json()["error"]
            assert len(answer.headers.get_list("x-request-id")) == 1
            assert (answer.status_code, error["code"], error["param"]) == (
                bad.status, bad.code, bad.param,
            ), bad.name  # fmt: skip
            assert http.get("/healthz").status_code == 200


def test_the_guard_stands_in_the_proxy(service: Served) -> None:
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\n"
    large = raw(service.port, f"{head}Content-Length: 100000000\r\n\r\n".encode())
    assert large.startswith(b"HTTP/1.1 413 ")
    assert b'"request_too_large"' in large
    key = f"Authorization: Bearer {service.key}\r\n"
    kind = "Content-Type: multipart/form-data; boundary=b\r\n"
    silent = f"{head}{key}{kind}Content-Length: 100\r\n\r\n".encode()
    with ThreadPoolExecutor(101) as pool:
        answers = [pool.submit(raw, service.port, silent, timeout=60) for _ in range(101)]
        assert httpx.get(f"{service.url}/healthz", timeout=60).status_code == 200
        assert not any(each.done() for each in answers)
        for each in answers:
            assert each.result().startswith(b"HTTP/1.1 408 ")


def test_no_header_of_a_client_changes_serve(client: openai.OpenAI) -> None:
    headers = {"x-request-timeout-seconds": "0.01", "x-request-disconnect-disabled": "?1"}
    reply = client.images.edit(
        image=picture(SIZE), prompt="x", extra_headers=headers,
        extra_body={"num_inference_steps": 50},
    )  # fmt: skip
    assert reply.data


def test_without_a_key_the_body_is_not_read(service: Served) -> None:
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n"
    for wrong in ("", "Authorization: Bearer rr-wrong\r\n"):
        answer = raw(service.port, f"{head}{wrong}\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 401 ")  # and not 408, as where it is waited for


def test_a_deadline_is_told_and_not_tried_again(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as late:
        client.images.edit(
            image=picture((32, 32)), prompt="x",
            extra_headers={"x-stainless-read-timeout": "0.2"},
            extra_body={"num_inference_steps": 100},
        )  # fmt: skip
    assert (late.value.status_code, late.value.code) == (504, "timeout")
    assert late.value.response.headers["x-should-retry"] == "false"


def test_clients_who_leave_free_the_model(service: Served, client: openai.OpenAI) -> None:
    """As many as the editor takes at once; what they asked for would take much longer."""
    options: Any = {"image": picture((32, 32)), "prompt": "x"}
    begin = time.monotonic()
    client.images.edit(**options, extra_body={"num_inference_steps": 100})
    alone = time.monotonic() - begin
    streams = [
        client.images.edit(
            **options, stream=True, partial_images=3, extra_body={"num_inference_steps": 100}
        )
        for _ in range(8)
    ]
    for stream in streams:
        stream.close()
    begin = time.monotonic()
    client.images.edit(**options, extra_body={"num_inference_steps": 1})
    assert time.monotonic() - begin < max(1.0, alone)


def test_the_dashboard_shows_what_ray_tells(service: Served, client: openai.OpenAI) -> None:
    """An edit, one that is late, and one that nobody waits for: all that there is to count."""
    options: Any = {"image": picture((32, 32)), "prompt": "x"}
    long: Any = {"num_inference_steps": 100}
    client.images.edit(**options)
    headers = {"x-stainless-read-timeout": "0.2"}
    with pytest.raises(openai.InternalServerError):
        client.images.edit(**options, extra_headers=headers, extra_body=long)
    client.images.edit(**options, stream=True, partial_images=3, extra_body=long).close()
    required = requirements(expressions(ROOT / "cluster" / "grafana" / "serving.json"))
    assert len(required) > 10
    assert never_told(required, service.metrics) == []


def test_neither_prompts_nor_keys_are_written_down(service: Served, client: openai.OpenAI) -> None:
    client.images.edit(image=picture(SIZE), prompt=SECRET)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="rr-of-somebody").images.edit(image=picture(), prompt=SECRET)
    logs = [path for path in service.folder.rglob("*") if path.is_file() and path.suffix != ""]
    assert any("serve" in path.parts for path in logs)
    for path in logs:
        text = path.read_bytes()
        for secret in (SECRET, service.key, "rr-of-somebody"):
            assert secret.encode() not in text, path

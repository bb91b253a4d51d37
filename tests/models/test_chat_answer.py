import json
from typing import Any

import pytest

from reasonray.models.chat_answer import Answer, Fault, read_answer

JSON = {"content-type": "application/json"}
STREAM = {"content-type": "text/event-stream"}


def completion(content: object = "hi", finish: str | None = "stop", **message: object) -> Any:
    said = {"role": "assistant", "content": content, **message}
    return {"id": "x", "choices": [{"index": 0, "message": said, "finish_reason": finish}]}


def read(content: object, status: int = 200, **headers: str) -> Answer | Fault:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(status, {**JSON, **given}, json.dumps(content).encode())


def fault(content: object, status: int = 400, **headers: str) -> Fault:
    outcome = read(content, status, **headers)
    assert isinstance(outcome, Fault)
    return outcome


@pytest.mark.parametrize(
    "content",
    [
        completion(),
        [completion()],
        {**completion(), "usage": None},
        completion([{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]),
        completion(
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm, {a}?"}]},
                {"type": "text", "text": "hi"},
            ]
        ),
        completion("hi", reasoning_content="thought", reasoning="thought"),
        completion(None, reasoning_content="hi"),
        completion("", reasoning="hi"),
        completion(None, tool_calls=[{"function": {"name": "f", "arguments": "hi"}}]),
        completion(None, function_call={"name": "f", "arguments": "hi"}),
        {"choices": [{"text": "hi", "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": "hi"}}]},
    ],
)
def test_the_text_is_read_out_of_each_form_of_reply(content: object) -> None:
    outcome = read(content)
    assert isinstance(outcome, Answer)
    assert outcome.text == "hi"


def test_a_reply_that_is_an_object_is_its_json() -> None:
    outcome = read(completion({"choice": 1}))
    assert isinstance(outcome, Answer)
    assert json.loads(outcome.text) == {"choice": 1}


def test_thoughts_are_no_reply_where_the_limit_was_reached() -> None:
    outcome = read(completion("", "length", reasoning_content="Let me think"))
    assert outcome == Answer("", finish_reason="length", has_thoughts=True)


def test_finish_reason_refusal_and_tokens_are_read() -> None:
    content = {**completion("x", "MAX_TOKENS", refusal="no"), "usage": {"total_tokens": 7}}
    assert read(content) == Answer("x", "max_tokens", "no", num_tokens=7)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\xef\xbb\xbf" + json.dumps(completion("wei\u00df")).encode(), "application/json"),
        (
            json.dumps(completion("wei\u00df"), ensure_ascii=False).encode("latin-1"),
            "application/json; charset=iso-8859-1",
        ),
        (json.dumps(completion("wei\u00df"), ensure_ascii=False).encode(), "x; charset=nonsense"),
    ],
)
def test_bytes_are_read_in_the_encoding_that_they_have(body: bytes, content_type: str) -> None:
    outcome = read_answer(200, {"content-type": content_type}, body)
    assert isinstance(outcome, Answer)
    assert outcome.text == "wei\u00df"


@pytest.mark.parametrize("headers", [STREAM, JSON, {}])
def test_a_stream_is_put_together_whether_it_was_asked_for_or_not(headers: dict) -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"content": "h"},
        {"content": "i"},
    ]
    chunks: list[dict[str, Any]] = [
        {"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": {"total_tokens": 9}})
    lines = [": waiting", *(f"data: {json.dumps(chunk)}" for chunk in chunks), "data: [DONE]"]
    outcome = read_answer(200, headers, "\n\n".join(lines).encode())
    assert outcome == Answer("hi", "stop", has_thoughts=True, num_tokens=9)


def test_an_error_in_a_stream_is_a_fault() -> None:
    lines = [
        'data: {"choices": [{"delta": {"content": "h"}}]}',
        'data: {"error": {"code": 502, "message": "Upstream broke."}}',
    ]
    outcome = read_answer(200, STREAM, "\n\n".join(lines).encode())
    assert isinstance(outcome, Fault)
    assert (outcome.status, outcome.words) == (502, "Upstream broke")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"error": {"message": "No\n way."}}, "No way"),
        ({"error": "No way"}, "No way"),
        ({"message": "No way"}, "No way"),
        ([{"error": {"message": "No way", "status": "X"}}], "No way"),
        ({"detail": "No way"}, "No way"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "No way"}]}, "body.seed: No way"),
        (
            {"object": "error", "message": {"detail": [{"loc": ["body", "a"], "msg": "No way"}]}},
            "body.a: No way",
        ),
        (
            {"error": {"message": "Provider error", "metadata": {"raw": "No way"}}},
            "Provider error (No way)",
        ),
        ({"strange": 1}, '{"strange": 1}'),
        ("No way", "No way"),
        (None, "null"),
    ],
)
def test_the_words_of_an_error_are_found_where_they_stand(content: object, words: str) -> None:
    assert fault(content).words == words
    assert fault(content).status == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"upstream connect error", "upstream connect error"),
        (b"<html><style>p {}</style><body><p>Bad\n gateway</p></body></html>", "Bad gateway"),
        (b"", "status 502 without a word"),
    ],
)
def test_an_error_that_is_no_json_is_read_too(body: bytes, words: str) -> None:
    outcome = read_answer(502, {}, body)
    assert isinstance(outcome, Fault)
    assert (outcome.status, outcome.words) == (502, words)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"error": {"message": "Provider returned error", "code": 502}}, 502),
        ({"error": {"message": "Provider returned error", "code": "429"}}, 429),
        ({"error": {"message": "Provider returned error"}}, 500),
        (
            {
                "choices": [
                    {"message": {"content": ""}, "error": {"code": 503, "message": "upstream"}}
                ]
            },
            503,
        ),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}, 500),
    ],
)
def test_an_error_with_status_200_has_the_status_it_names(content: object, status: int) -> None:
    assert fault(content, 200).status == status


@pytest.mark.parametrize("body", [b'{"id": 1}', b'{"choices": null}', b"<html>Log in</html>", b""])
def test_an_answer_that_is_neither_is_quoted(body: bytes) -> None:
    outcome = read_answer(200, JSON, body)
    assert isinstance(outcome, Fault)
    assert outcome.status == 200
    assert "is no chat completion" in outcome.words


@pytest.mark.parametrize(
    ("content", "headers", "wait"),
    [
        ({}, {}, None),
        ({}, {"retry_after": "7"}, 7.0),
        ({}, {"retry_after": "-1"}, 0.0),
        ({}, {"retry_after": "soon"}, None),
        ({}, {"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"error": {"message": "Please try again in 1.2s."}}, {}, 1.2),
        ({"error": {"message": "Please try again in 500ms"}}, {}, 0.5),
        ({"error": {"message": "Try again in 20 minutes"}}, {}, 1200.0),
        ({"error": {"message": "Please try again in 1m2.5s. Visit us"}}, {}, 62.5),
        ({"error": {"message": "Please retry in 33.5s"}}, {"retry_after": "2"}, 2.0),
        ({"error": {"details": [{"retryDelay": "33s"}]}}, {}, 33.0),
        ({"error": "Model x is currently loading", "estimated_time": 20.5}, {}, 20.5),
    ],
)
def test_the_wait_is_what_header_or_words_say(
    content: object, headers: dict, wait: float | None
) -> None:
    assert fault(content, 429, **headers).wait == wait

"""What real servers did, done again: their words are theirs, to the letter.

llama.cpp's llama-server (build 10434, SmolLM2-135M and the zoo's model as GGUF) and vLLM 0.32's
OpenAI server for CPUs (the zoo's model).
"""

import json
import threading
import time
from typing import Any

import pytest
from lying_server import Answer, LyingServer

from reasonray.core.errors import RunError
from reasonray.core.sections import LanguageModelConfig
from reasonray.models import openai_server
from reasonray.models.chat_answer import Fault, read_answer
from reasonray.models.language_model import ReplyFailure, Request
from reasonray.models.openai_server import OpenAIServer
from reasonray.models.server_faults import Change, Later, verdict

SENT: dict[str, Any] = {
    "model": "liar",
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
    "temperature": 1.0,
    "seed": 7,
    "max_tokens": 1024,
    "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": {}}},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(openai_server, "FIRST_OUTAGE_WAIT_S", 0.01)


def config(url: str, **settings: object) -> LanguageModelConfig:
    given = {"base_url": url, "timeout_s": 20.0, "max_attempts": 3, **settings}
    return LanguageModelConfig.model_validate({"model": {"name": "liar"}, "server": given})


def client(server: LyingServer, **settings: object) -> OpenAIServer:
    return OpenAIServer(config(server.url, **settings))


def ask(text: str) -> Request:
    return Request([{"role": "user", "content": text}], None, 7, 0.5, 99)


def outcome(status: int, error: dict[str, Any]) -> object:
    fault = read_answer(status, {}, json.dumps({"error": error}).encode())
    assert isinstance(fault, Fault)
    return verdict(fault, SENT, config("http://liar/v1"))


LLAMA_CPP: dict[str, tuple[int, dict[str, Any], Change]] = {
    "schema": (
        400,
        {
            "code": 400,
            "message": "Unable to generate parser for this template. Automatic parser generation "
            'failed: JSON schema conversion failed:\nUnrecognized schema: {"type":"nonsense"}',
            "type": "invalid_request_error",
        },
        Change("response_format"),
    ),
    "form": (
        400,
        {
            "code": 400,
            "message": 'response_format type must be one of "text" or "json_object", but got: xml',
            "type": "invalid_request_error",
        },
        Change("response_format"),
    ),
    "seed": (
        400,
        {
            "code": 400,
            "message": "Field 'seed': [json.exception.type_error.302] type must be number, but is "
            "string",
            "type": "invalid_request_error",
        },
        Change("seed"),
    ),
    "too long": (
        400,
        {
            "code": 400,
            "message": "request (5031 tokens) exceeds the available context size (2048 tokens), "
            "try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 5031,
            "n_ctx": 2048,
        },
        Change("limit"),
    ),
}
VLLM: dict[str, tuple[int, dict[str, Any], Change]] = {
    "schema": (
        400,
        {
            "message": "Grammar error: Invalid type: nonsense",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        Change("response_format"),
    ),
    "form": (
        400,
        {
            "message": "6 validation errors:\n  {'type': 'literal_error', 'loc': "
            "'body.response_format.type', 'msg': \"Input should be 'text', 'json_object' or "
            "'json_schema'\", 'input': 'xml'}",
            "type": "Bad Request",
            "param": "body.response_format.type",
            "code": 400,
        },
        Change("response_format"),
    ),
    "seed": (
        400,
        {
            "message": "1 validation error:\n  {'type': 'int_parsing', 'loc': 'body.seed', 'msg': "
            "'Input should be a valid integer, unable to parse string as an integer', 'input': "
            "'x'}",
            "type": "Bad Request",
            "param": "body.seed",
            "code": 400,
        },
        Change("seed"),
    ),
    "limit": (
        400,
        {
            "message": "max_tokens=100000 cannot be greater than max_model_len=1024. Please "
            "request fewer output tokens. (parameter=max_tokens, value=100000)",
            "type": "BadRequestError",
            "param": "max_tokens",
            "code": 400,
        },
        Change("limit"),
    ),
    "too long": (
        400,
        {
            "message": "This model's maximum context length is 1024 tokens. However, your prompt "
            "contains at least 1025 input tokens, which exceeds this limit even without any output "
            "tokens. Please reduce the length of the input prompt. (parameter=input_tokens, "
            "value=1025)",
            "type": "BadRequestError",
            "param": "input_tokens",
            "code": 400,
        },
        Change("limit"),
    ),
}


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_what_llama_cpp_refuses_is_changed(name: str) -> None:
    status, error, change = LLAMA_CPP[name]
    assert outcome(status, error) == change


@pytest.mark.parametrize("name", VLLM)
def test_what_vllm_refuses_is_changed(name: str) -> None:
    status, error, change = VLLM[name]
    assert outcome(status, error) == change


def test_llama_cpp_is_waited_for_while_it_loads() -> None:
    error = {"message": "Loading model", "type": "unavailable_error", "code": 503}
    expected = Later("it answers 503 (Loading model)", blames_server=True)
    assert outcome(503, error) == expected


def test_vllm_says_which_names_it_answers_to() -> None:
    error = {
        "message": "The model `nosuch` does not exist. Valid aliases: mini.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }
    with pytest.raises(RunError, match=r"has no model liar .*Valid aliases: mini\)"):
        outcome(404, error)


def test_a_reply_that_filled_the_context_is_told_from_one_that_reached_its_limit(
    lying_server: LyingServer,
) -> None:
    # As llama.cpp's server does: "length" where the slot's context ends, whatever was asked for.
    lying_server.answer = lambda body, count: Answer("Once", finish_reason="length", num_written=41)
    [reply] = client(lying_server).reply([ask("a")])
    assert isinstance(reply, ReplyFailure)
    assert (reply.reason, reply.text) == ("context_full", "Once")
    assert "after 41 of 99 tokens" in reply.detail


def test_a_reply_that_reached_a_limit_that_was_halved_has_no_more_room(
    lying_server: LyingServer,
) -> None:
    # In vLLM's words; a limit that its context has room for without the prompt it lowers itself.
    words = (
        "max_tokens=1024 cannot be greater than max_model_len=600. Please request fewer output "
        "tokens. (parameter=max_tokens, value=1024)"
    )
    lying_server.answer = lambda body, count: (
        Answer(status=400, error={"message": words})
        if body["max_tokens"] > 600
        else Answer("Once", finish_reason="length")
    )
    long = Request([{"role": "user", "content": "a"}], None, 0, 0.0, 1024)
    [reply] = client(lying_server).reply([long])
    assert isinstance(reply, ReplyFailure)
    assert (reply.reason, "after 512 of 1024 tokens" in reply.detail) == ("context_full", True)


def test_a_server_that_answers_as_another_model_is_named_once(
    lying_server: LyingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    # llama.cpp's server answers to any name, with the model that it has.
    lying_server.answer = lambda body, count: Answer("fine", model="smol")
    model = client(lying_server)
    assert model.reply([ask("a"), ask("b")]) == ["fine", "fine"]
    assert capsys.readouterr().err.count("it answers as smol; liar was asked for") == 1


@pytest.mark.parametrize("name", ["liar", "liar-2026-11-26", "Liar", ""])
def test_the_model_that_was_asked_for_is_no_news(
    lying_server: LyingServer, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    lying_server.answer = lambda body, count: Answer("fine", model=name)
    client(lying_server).reply([ask("a")])
    assert "answers as" not in capsys.readouterr().err


def test_a_server_too_slow_for_so_many_at_once_stops_the_run_and_rejects_no_row(
    lying_server: LyingServer,
) -> None:
    # One slot, as llama.cpp's server has: the others wait in its queue until they are given up.
    slot = threading.Lock()

    def answer(body: dict, count: int) -> Answer:
        with slot:
            time.sleep(1.4)
        return Answer("fine")

    lying_server.answer = answer
    # Long enough to connect on a busy machine: a connection that does not come is another fault.
    model = client(lying_server, timeout_s=2, max_attempts=2)
    with pytest.raises(RunError, match=r"timeout_s \(2 s\), 2 times, .*Lower .*max_conc"):
        model.reply([ask(str(i)) for i in range(12)])

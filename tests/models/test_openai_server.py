import asyncio
import email.utils
import json
import time
from typing import Any

import httpx2  # what openai's client is built on
import openai
import pytest
from lying_server import Answer, LyingServer

from reasonray.core.errors import RunError, UserError
from reasonray.core.sections import LanguageModelConfig, ModelConfig, ServerConfig
from reasonray.models import openai_server
from reasonray.models.language_model import ReplyFailure, Request, load_language_model
from reasonray.models.openai_server import Drop, Later, OpenAIServer, verdict

SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "FIRST_WAIT_S", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def client(server: LyingServer, **settings: object) -> OpenAIServer:
    given = {"base_url": server.url, "timeout_s": 20.0, "max_attempts": 3, **settings}
    section = {"model": {"name": "liar"}, "server": given}
    return OpenAIServer(LanguageModelConfig.model_validate(section))


def ask(text: str, *, schema: dict | None = SCHEMA, seed: int = 2**40 + 7) -> Request:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": text}]
    return Request(messages, schema, seed, 0.5, 99)


def asked(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def test_replies_come_back_in_the_order_of_their_requests(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(
        f"to {asked(body)}", delay=0.1 if asked(body) == "a" else 0
    )
    assert client(lying_server).reply([ask(t) for t in "abc"]) == ["to a", "to b", "to c"]


def test_a_request_carries_model_seed_temperature_length_and_schema(
    lying_server: LyingServer,
) -> None:
    client(lying_server).reply([ask("a")])
    body = lying_server.seen[0].body
    assert body["model"] == "liar"
    assert body["messages"][1] == {"role": "user", "content": "a"}
    assert (body["seed"], body["temperature"], body["max_tokens"]) == (7, 0.5, 99)
    form = body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"] == SCHEMA


def test_no_more_requests_run_at_once_than_allowed(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer("fine", delay=0.05)
    client(lying_server, max_concurrency=2).reply([ask(str(i)) for i in range(8)])
    assert lying_server.most_at_once <= 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_429_is_tried_again_no_sooner_than_the_server_asks(
    lying_server: LyingServer, form: str
) -> None:
    def answer(body: dict[str, Any], count: int) -> Answer:
        # As it answers: what comes before the first request takes time, too.
        later = email.utils.formatdate(time.time() + 2, usegmt=True)
        wait = {"seconds": "1", "date": later}[form]
        return Answer("fine") if count else Answer(status=429, headers={"Retry-After": wait})

    lying_server.answer = answer
    assert client(lying_server).reply([ask("a")]) == ["fine"]
    first, second = lying_server.seen
    assert second.at - first.at >= 0.9


def test_a_429_pauses_the_requests_that_have_not_been_sent(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: (
        Answer("fine")
        if count or asked(body) != "a"
        else Answer(status=429, headers={"Retry-After": "1"})
    )
    assert client(lying_server, max_concurrency=1).reply([ask("a"), ask("b")]) == ["fine", "fine"]
    refused = lying_server.seen[0].at
    assert all(seen.at - refused >= 0.9 for seen in lying_server.seen[1:])


def test_429_without_end_stops_the_run(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(status=429)
    with pytest.raises(RunError, match=r"429.*Check the server"):
        client(lying_server).reply([ask("a")])
    assert len(lying_server.seen) == 3


def test_a_retry_after_of_hours_stops_the_run(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(status=429, headers={"Retry-After": "7200"})
    with pytest.raises(RunError, match="7200 s"):
        client(lying_server).reply([ask("a")])


def test_a_spent_quota_stops_the_run_at_once(lying_server: LyingServer) -> None:
    error = {"message": "You exceeded your quota", "code": "insufficient_quota"}
    lying_server.answer = lambda body, count: Answer(status=429, error=error)
    with pytest.raises(RunError, match="quota"):
        client(lying_server).reply([ask("a")])
    assert len(lying_server.seen) == 1


@pytest.mark.parametrize(
    "lie",
    [
        Answer(status=500),
        pytest.param(Answer(hangs=True), marks=pytest.mark.slow),
        pytest.param(Answer("fine", drips=True), marks=pytest.mark.slow),
        Answer(body=b"<html>gateway</html>"),
        Answer(body=b'{"id": 1}'),
        Answer(body=b""),
        Answer(status=413, error={"message": "too long"}),
        Answer(status=400, error={"message": "context length"}),
        Answer(refusal="I will not"),
    ],
    ids=["500", "hangs", "drips", "html", "no choices", "no body", "413", "400", "refusal"],
)
def test_what_always_goes_wrong_with_one_prompt_fails_that_prompt_alone(
    lying_server: LyingServer, lie: Answer
) -> None:
    lying_server.answer = lambda body, count: lie if asked(body) == "bad" else Answer("fine")
    model = client(lying_server, timeout_s=2.0, max_attempts=2)
    first, bad, last = model.reply([ask("a"), ask("bad"), ask("c")])
    assert (first, last) == ("fine", "fine")
    assert isinstance(bad, ReplyFailure)
    assert bad.detail.endswith(".") or "I will not" in bad.detail


def test_a_passing_500_costs_nothing(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer("fine") if count == 2 else Answer(status=503)
    assert client(lying_server).reply([ask("a")]) == ["fine"]


def test_an_empty_reply_is_passed_on_for_the_parser_to_judge(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(None)
    assert client(lying_server).reply([ask("a")]) == [""]


def test_a_server_that_fails_every_prompt_stops_the_run(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(status=500)
    with pytest.raises(RunError, match="in a row"):
        client(lying_server, max_attempts=1).reply([ask(str(i)) for i in range(60)])


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "no model liar")]
)
def test_a_refused_key_or_model_stops_the_run_with_the_remedy(
    lying_server: LyingServer, status: int, remedy: str
) -> None:
    lying_server.answer = lambda body, count: Answer(status=status, error={"message": "no"})
    with pytest.raises(RunError, match=remedy):
        client(lying_server).reply([ask("a")])


def test_an_unreachable_server_stops_the_run_and_is_named(lying_server: LyingServer) -> None:
    model = client(lying_server)
    lying_server.close()
    with pytest.raises(RunError, match=rf"{lying_server.url}: it cannot be reached"):
        model.reply([ask("a")])


@pytest.mark.parametrize("usage", [True, False])
def test_a_spent_token_budget_stops_before_the_next_request(
    lying_server: LyingServer, usage: bool
) -> None:
    lying_server.answer = lambda body, count: Answer("word " * 80, usage=usage)
    model = client(lying_server, token_budget=150, max_concurrency=1)
    assert len(model.reply([ask("a")])) == 1
    with pytest.raises(RunError, match=r"Raise language_model\.server\.token_budget"):
        model.reply([ask(str(i)) for i in range(5)])
    assert len(lying_server.seen) == 2


@pytest.mark.parametrize(
    "error",
    [
        {"message": "no", "param": "response_format"},
        {"message": "'response_format' of this type is not supported"},
        {"message": "This model has no JSON schema"},
    ],
    ids=["param", "name", "words"],
)
def test_structured_output_falls_back_and_the_fallback_is_remembered(
    lying_server: LyingServer, error: dict
) -> None:
    def answer(body: dict, count: int) -> Answer:
        form = body.get("response_format", {}).get("type")
        return Answer("fine") if form is None else Answer(status=400, error=error)

    lying_server.answer = answer
    model = client(lying_server)
    assert model.reply([ask("a")]) == ["fine"]
    forms = [seen.body.get("response_format", {}).get("type") for seen in lying_server.seen]
    assert forms == ["json_schema", "json_object", None]
    assert model.reply([ask("b")]) == ["fine"]
    assert len(lying_server.seen) == 4


def test_a_prompt_that_is_refused_costs_no_other_its_schema(lying_server: LyingServer) -> None:
    error = {"message": "The response was filtered", "param": "prompt", "code": "content_filter"}
    lying_server.answer = lambda body, count: (
        Answer(status=400, error=error) if asked(body) == "bad" and not count else Answer("fine")
    )
    model = client(lying_server)
    [bad] = model.reply([ask("bad")])
    assert isinstance(bad, ReplyFailure)
    assert model.reply([ask("a")]) == ["fine"]
    forms = [seen.body["response_format"]["type"] for seen in lying_server.seen]
    assert forms == ["json_schema", "json_schema"]


def test_parameters_refused_to_many_at_once_cost_no_prompt_and_no_schema(
    lying_server: LyingServer,
) -> None:
    def answer(body: dict, count: int) -> Answer:
        for name in ("max_tokens", "temperature", "seed"):
            if body.get(name, 1) != 1:
                error = {"message": f"Unsupported parameter: '{name}'.", "param": name}
                # Unevenly late: others have dropped the parameter when this refusal comes.
                late = int(asked(body)) % 4 * 0.05
                return Answer(status=400, error=error, delay=late)
        return Answer(body.get("response_format", {}).get("type"))

    lying_server.answer = answer
    model = client(lying_server, max_concurrency=64)
    asked_for = [ask(str(i)) for i in range(64)]
    assert model.reply(asked_for) == ["json_schema"] * 64
    num_seen = len(lying_server.seen)
    assert model.reply(asked_for) == ["json_schema"] * 64
    assert len(lying_server.seen) == num_seen + 64


def test_a_model_that_takes_only_the_new_name_of_max_tokens_gets_it(
    lying_server: LyingServer,
) -> None:
    error = {"message": "use 'max_completion_tokens' instead", "param": "max_tokens"}
    lying_server.answer = lambda body, count: (
        Answer(status=400, error=error) if "max_tokens" in body else Answer("fine")
    )
    assert client(lying_server).reply([ask("a")]) == ["fine"]
    last = lying_server.seen[-1].body
    assert last["max_completion_tokens"] == 99
    assert last["response_format"]["type"] == "json_schema"


def test_a_prompt_that_holds_a_parameter_s_name_does_not_drop_it(
    lying_server: LyingServer,
) -> None:
    error = {"message": "filtered: a seed on a leaf at low temperature"}
    lying_server.answer = lambda body, count: (
        Answer(status=400, error=error) if asked(body) == "bad" else Answer("fine")
    )
    model = client(lying_server)
    model.reply([ask("bad")])
    model.reply([ask("a")])
    assert {"seed", "temperature"} <= lying_server.seen[-1].body.keys()


def test_the_key_comes_from_the_environment(
    lying_server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    client(lying_server).reply([ask("a")])
    headers = {name.lower(): value for name, value in lying_server.seen[0].headers.items()}
    assert headers["authorization"] == "Bearer sesame"


def test_openai_without_a_key_is_the_user_s_mistake() -> None:
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        OpenAIServer(LanguageModelConfig())


def test_it_answers_inside_a_running_event_loop(lying_server: LyingServer) -> None:
    async def notebook() -> list[str | ReplyFailure]:
        return client(lying_server).reply([ask("a")])

    assert asyncio.run(notebook()) == ["fine"]


def test_stages_that_name_the_same_model_share_it(lying_server: LyingServer) -> None:
    server = ServerConfig(base_url=lying_server.url)
    config = LanguageModelConfig(model=ModelConfig(name="liar"), server=server)
    same = LanguageModelConfig.model_validate(json.loads(config.model_dump_json()))
    assert load_language_model(config) is load_language_model(same)


WITH_ALL = {"temperature": 0, "seed": 1, "max_tokens": 9, "response_format": {}}
HTTP_REQUEST = httpx2.Request("POST", "http://liar/v1/chat/completions")
CONFIG = LanguageModelConfig(
    model=ModelConfig(name="liar"),
    server=ServerConfig(base_url="http://liar/v1", timeout_s=20.0),
)


def refusal(
    status: int, message: str = "no", retry_after: str | None = None, **error: str
) -> openai.APIStatusError:
    """As openai's client makes it of an answer."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    answer = httpx2.Response(status, headers=headers, request=HTTP_REQUEST)
    return openai.APIStatusError(message, response=answer, body={"message": message, **error})


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


REFUSED = ReplyFailure("The server refused the prompt: no.")
TOO_MANY = "it answers 429, too many requests"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refusal(400), REFUSED),
        (refusal(413), REFUSED),
        (refusal(422), REFUSED),
        (refusal(400, "a\n  b."), ReplyFailure("The server refused the prompt: a b.")),
        (refusal(400, param="seed"), Drop("seed")),
        (refusal(400, "Unsupported parameter: 'max_tokens'."), Drop("max_tokens")),
        (refusal(400, "unknown key: temperature"), Drop("temperature")),
        (refusal(400, param="response_format"), Drop("response_format")),
        (refusal(400, "We have no JSON Schema"), Drop("response_format")),
        (refusal(400, param="top_p"), REFUSED),
        (refusal(429), Later(TOO_MANY, None, blames_server=True)),
        (refusal(429, retry_after="7"), Later(TOO_MANY, 7.0, blames_server=True)),
        (refusal(429, retry_after="soon"), Later(TOO_MANY, None, blames_server=True)),
        (refusal(429, retry_after="-1"), Later(TOO_MANY, 0.0, blames_server=True)),
        (refusal(408), Later("the server answered 408 each time (no)")),
        (refusal(409), Later("the server answered 409 each time (no)")),
        (refusal(500), Later("the server answered 500 each time (no)")),
        (refusal(503, retry_after="2"), Later("the server answered 503 each time (no)", 2.0)),
        (TimeoutError(), Later("no reply within 20 s")),
        (openai.APITimeoutError(HTTP_REQUEST), Later("no reply within 20 s")),
        (
            caused_by(openai.APITimeoutError(HTTP_REQUEST), httpx2.ConnectTimeout("late")),
            Later("no reply within 20 s", blames_server=True),
        ),
        (
            caused_by(openai.APIConnectionError(request=HTTP_REQUEST), OSError("gone")),
            Later("it cannot be reached (gone)", blames_server=True),
        ),
        (ValueError("no choices"), Later("the server's answer is no chat completion (no choices)")),
    ],
    ids=lambda value: None if isinstance(value, Exception) else str(value),
)
def test_the_verdict_on_an_error(error: Exception, expected: Drop | Later | ReplyFailure) -> None:
    assert verdict(error, WITH_ALL, CONFIG) == expected


@pytest.mark.parametrize("name", WITH_ALL)
def test_what_was_not_sent_cannot_be_dropped(name: str) -> None:
    sent = {key: value for key, value in WITH_ALL.items() if key != name}
    assert verdict(refusal(400, param=name), sent, CONFIG) == REFUSED


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(401), r"liar/v1 refuses the key \(no\)\. Set OPENAI_API_KEY to a valid one$"),
        (refusal(403), r"liar/v1 refuses the key"),
        (refusal(404), r"liar/v1 has no model liar or is no .* Correct language_model"),
        (refusal(429, code="insufficient_quota"), r"quota is spent \(no\)\. Raise it$"),
        (refusal(429, retry_after="7200"), r"asks to wait 7200 s, longer than"),
        (refusal(503, retry_after="7200"), r"asks to wait 7200 s"),
    ],
)
def test_what_every_prompt_would_meet_stops_the_run(error: Exception, message: str) -> None:
    with pytest.raises(RunError, match=message):
        verdict(error, WITH_ALL, CONFIG)

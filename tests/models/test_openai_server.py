import asyncio
import email.utils
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lying_server import Answer, LyingServer

from reasonray.core.errors import RunError, UserError
from reasonray.core.sections import LanguageModelConfig, ModelConfig, ServerConfig
from reasonray.models import openai_server
from reasonray.models.language_model import (
    Dialogue,
    ReplyFailure,
    Request,
    load_language_model,
)
from reasonray.models.openai_server import OpenAIServer

SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(openai_server, "FIRST_OUTAGE_WAIT_S", 0.01)
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


@pytest.mark.parametrize("status", [500, 503])
def test_a_passing_outage_costs_nothing(lying_server: LyingServer, status: int) -> None:
    lying_server.answer = lambda body, count: (
        Answer("fine") if count == 2 else Answer(status=status, error={"message": "Loading model"})
    )
    assert client(lying_server).reply([ask("a")]) == ["fine"]


def test_an_empty_reply_is_passed_on_for_the_parser_to_judge(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(None)
    assert client(lying_server).reply([ask("a")]) == [""]


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


LISTED = {"type": "object", "properties": {"x": {"type": "array", "minItems": 2, "maxItems": 2}}}


def complains(words: str, of: Callable[[dict[str, Any]], bool], status: int = 400) -> Any:
    return lambda body, count: (
        Answer(status=status, error={"message": words}) if of(body) else Answer("fine")
    )


def test_a_schema_keyword_that_the_server_does_not_know_goes_and_the_schema_stays(
    lying_server: LyingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    lying_server.answer = complains(
        "invalid response_format: minItems is not supported", lambda body: "minItems" in str(body)
    )
    model = client(lying_server)
    assert model.reply([ask("a", schema=LISTED)]) == ["fine"]
    assert model.reply([ask("b", schema=LISTED)]) == ["fine"]
    assert len(lying_server.seen) == 3
    schema = lying_server.seen[-1].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["x"] == {"type": "array", "maxItems": 2}
    assert capsys.readouterr().err.count("requests are taken without minItems") == 1


def test_the_system_s_text_goes_into_the_user_s_turn_where_there_is_no_such_role(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = complains(
        "System role not supported", lambda body: body["messages"][0]["role"] == "system"
    )
    model = client(lying_server)
    assert model.reply([ask("a")]) == ["fine"]
    assert lying_server.seen[-1].body["messages"] == [{"role": "user", "content": "s\n\na"}]
    model.reply([ask("b")])
    assert len(lying_server.seen) == 3


def test_a_server_that_only_streams_is_asked_for_a_stream(lying_server: LyingServer) -> None:
    chunk = {"choices": [{"delta": {"content": "fine"}, "finish_reason": "stop"}]}
    stream = Answer(body=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
    lying_server.answer = lambda body, count: (
        stream
        if body.get("stream")
        else Answer(status=400, error={"message": "This model only supports streaming."})
    )
    model = client(lying_server)
    assert model.reply([ask("a")]) == ["fine"]
    assert model.reply([ask("b")]) == ["fine"]
    assert len(lying_server.seen) == 3


def test_a_limit_beyond_the_context_is_halved_for_that_request_alone(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = complains(
        "'max_tokens' is too large: at most 300", lambda body: body["max_tokens"] > 300
    )
    model = client(lying_server)
    long = Request([{"role": "user", "content": "a"}], None, 0, 0.0, 1024)
    assert model.reply([long]) == ["fine"]
    assert [seen.body["max_tokens"] for seen in lying_server.seen] == [1024, 512, 256]
    model.reply([ask("b")])
    assert lying_server.seen[-1].body["max_tokens"] == 99


def test_a_reply_that_reached_its_limit_says_so_with_what_there_is(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lambda body, count: Answer("Once upon", finish_reason="length")
    [reply] = client(lying_server).reply([ask("a")])
    assert reply == ReplyFailure("the reply filled all 99 tokens", "cut_off", "Once upon")


def test_one_that_stays_unavailable_stops_the_run_in_its_words(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(status=503, error={"message": "Maintenance"})
    with pytest.raises(RunError, match=r"it answers 503 \(Maintenance\), 3 times\. Check"):
        client(lying_server).reply([ask("a")])


def test_many_threads_share_a_server_and_its_limit(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(f"to {asked(body)}", delay=0.05)
    model = client(lying_server, max_concurrency=3)
    with ThreadPoolExecutor(12) as executor:
        replies = list(executor.map(lambda text: model.reply([ask(text)]), map(str, range(12))))
    assert replies == [[f"to {number}"] for number in range(12)]
    assert 1 < lying_server.most_at_once <= 3


def test_a_dialogue_goes_on_without_waiting_for_the_others(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(
        f"to {asked(body)}", delay=1.0 if asked(body) == "slow" else 0
    )
    order: list[str] = []

    def dialogue(*texts: str) -> Dialogue:
        for text in texts:
            order.append(str((yield ask(text))))

    client(lying_server).converse([dialogue("slow"), dialogue("a", "b", "c")])
    assert order == ["to a", "to b", "to c", "to slow"]

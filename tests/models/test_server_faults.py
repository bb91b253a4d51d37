import json
from typing import Any

import pytest

from reasonray.core.errors import RunError
from reasonray.core.sections import LanguageModelConfig, ModelConfig, ServerConfig
from reasonray.models.chat_answer import Fault, read_answer
from reasonray.models.language_model import ReplyFailure
from reasonray.models.server_faults import Change, Later, verdict

CONFIG = LanguageModelConfig(
    model=ModelConfig(name="liar"), server=ServerConfig(base_url="http://liar/v1")
)
SCHEMA = {"type": "array", "minItems": 2, "items": {"additionalProperties": False}}
SENT = {
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
    "temperature": 0,
    "seed": 1,
    "max_tokens": 1024,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA},
    },
}


def fault(status: int, error: Any = "no", **headers: str) -> Fault:
    content = {"error": {"message": error}} if isinstance(error, str) else error
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    outcome = read_answer(status, named, json.dumps(content).encode())
    assert isinstance(outcome, Fault)
    return outcome


@pytest.mark.parametrize(
    ("status", "error", "name"),
    [
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]}, "seed"),
        (400, {"message": "seed: Extra inputs are not permitted"}, "seed"),
        (400, {"error": {"message": "no", "param": "seed"}}, "seed"),
        (400, "Unrecognized request argument supplied: seed", "seed"),
        (
            422,
            {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}},
            "seed",
        ),
        (400, "unknown key: temperature", "temperature"),
        (
            400,
            "Unsupported value: 'temperature' does not support 0 here.",
            "temperature",
        ),
        (400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "max_tokens"),
        (
            500,
            "[{'loc': ('body', 'response_format', 'type')}]",
            "response_format",
        ),
        (422, {"detail": [{"loc": ["body", "response_format", "type"]}]}, "response_format"),
        (400, "This response_format type is unavailable now", "response_format"),
        (400, "We have no JSON Schema", "response_format"),
        (400, "response_format/json_schema/reply: minItems is not supported", "minItems"),
        (400, 'Invalid JSON payload: Unknown name "additionalProperties"', "additionalProperties"),
        (400, "System role not supported", "system"),
        (400, "Developer instruction is not enabled for models/gemma", "system"),
        (500, "Conversation roles must alternate user/assistant/user/assistant", "system"),
        (422, {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Input"}]}, "system"),
        (400, "This model only supports streaming. Set stream to true.", "stream"),
        (400, "This model's maximum context length is 512 tokens, you requested 1900", "limit"),
        (400, "'max_tokens' is too large: 1024. At most 300", "limit"),
        (400, "Range of max_tokens should be [1, 512]", "limit"),
        (413, "Request too large for model `x`: Limit 6000, Requested 7012", "limit"),
        (400, "failed to parse grammar", "response_format"),
        (400, "Guided decoding is not enabled", "response_format"),
    ],
)
def test_what_the_server_names_is_changed_whatever_the_status_and_form(
    status: int, error: Any, name: str
) -> None:
    assert verdict(fault(status, error), SENT, CONFIG) == Change(name)


@pytest.mark.parametrize("name", ["temperature", "seed", "max_tokens", "response_format"])
def test_what_was_not_sent_cannot_be_changed(name: str) -> None:
    sent = {key: value for key, value in SENT.items() if key != name}
    outcome = verdict(fault(400, {"error": {"message": "no", "param": name}}), sent, CONFIG)
    assert outcome == ReplyFailure("The server refused the prompt: no.")


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        ("maximum context length is 512 tokens", {**SENT, "max_tokens": 100}),
        ("minItems is unknown", {"messages": SENT["messages"]}),
        ("System role not supported", {"messages": [{"role": "user", "content": "u"}]}),
        ("Only streaming: set stream to true", {"messages": [{}], "stream": True}),
    ],
)
def test_what_has_been_changed_already_is_the_prompt_s_fault(error: str, sent: dict) -> None:
    assert isinstance(verdict(fault(400, error), sent, CONFIG), ReplyFailure)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"error": {"message": "no", "code": "content_filter", "param": "prompt"}}),
        (400, "The response was filtered due to the content management policy"),
        (403, "Your chosen model requires moderation and your input was flagged"),
        (451, "Blocked by the upstream moderation."),
        (400, "Input data may contain inappropriate content."),
        (400, "Content Exists Risk"),
        (200, {"base_resp": {"status_msg": "output new_sensitive"}, "choices": None}),
        (400, "\u53ef\u80fd\u5305\u542b\u654f\u611f\u5185\u5bb9"),
    ],
)
def test_a_filter_s_refusal_is_of_its_own_kind(status: int, error: Any) -> None:
    outcome = verdict(fault(status, error), SENT, CONFIG)
    assert isinstance(outcome, ReplyFailure)
    assert outcome.reason == "content_filter"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_that_names_nothing_is_the_prompt_s(status: int) -> None:
    outcome = verdict(fault(status, "a seed on a leaf, at low temperature"), SENT, CONFIG)
    assert outcome == ReplyFailure(
        "The server refused the prompt: a seed on a leaf, at low temperature."
    )


@pytest.mark.parametrize(
    ("status", "error", "headers", "wait"),
    [
        (429, "slow down", {}, None),
        (429, "slow down", {"retry_after": "7"}, 7.0),
        (429, "You exceeded your current quota. Please retry in 33s", {}, 33.0),
        (503, "no", {"retry_after": "2"}, 2.0),
        (502, "no", {}, None),
        (504, "no", {}, None),
        (529, "Overloaded", {}, None),
        (500, "The model is currently loading", {}, None),
        (400, "Our servers are currently overloaded.", {}, None),
        (498, "Flex tier capacity exceeded", {}, None),
        (503, {"error": "Model x is currently loading", "estimated_time": 20.0}, {}, 20.0),
        (200, {"error": {"code": 502, "message": "Provider returned error"}}, {}, None),
    ],
)
def test_what_every_prompt_would_meet_now_is_waited_for_by_all(
    status: int, error: Any, headers: dict, wait: float | None
) -> None:
    outcome = verdict(fault(status, error, **headers), SENT, CONFIG)
    assert isinstance(outcome, Later)
    assert (outcome.blames_server, outcome.wait) == (True, wait)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_success_without_a_reply_is_tried_again(status: int) -> None:
    outcome = verdict(fault(status, {"status": "pending"}), SENT, CONFIG)
    assert outcome == Later('its answer is no chat completion: {"status": "pending"}')


@pytest.mark.parametrize("status", [408, 409, 499, 500])
def test_what_may_lie_in_the_prompt_is_tried_again_for_it_alone(status: int) -> None:
    expected = Later(f"the server answered {status} each time (no)")
    assert verdict(fault(status), SENT, CONFIG) == expected


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, "no", r"liar/v1 refuses the key \(no\)\. Set OPENAI_API_KEY to a valid one$"),
        (403, "Blocked by WAF", r"refuses the request \(Blocked by WAF\)\. Check OPENAI_API_KEY"),
        (404, "no", r"liar/v1 has no model liar or is no .* Correct language_model"),
        (405, "Method Not Allowed", "has no model liar or is no OpenAI-compatible /v1 URL"),
        (410, "Gone", "has no model liar"),
        (400, "model 'liar' not found, try pulling it first", "has no model liar"),
        (400, "The model `liar` has been decommissioned", "has no model liar"),
        (400, "API key not valid. Please pass a valid API key.", "Check OPENAI_API_KEY"),
        (400, "User location is not supported for the API use.", "refuses the request"),
        (407, "Proxy Authentication Required", "refuses the request"),
        (429, {"error": {"message": "x", "code": "billing_not_active"}}, "credit is spent"),
        (402, "Insufficient Balance", r"credit is spent \(Insufficient Balance\)\. Raise it"),
        (400, "Your credit balance is too low to access the API", "credit is spent"),
        (400, {"error": {"message": "x", "code": "billing_hard_limit_reached"}}, "credit is spent"),
        (
            429,
            {"error": {"message": "x", "code": "insufficient_quota"}},
            "quota or credit is spent",
        ),
        (429, "Rate limit exceeded: free-models-per-day", r"free-models-per-day"),
        (429, [{"error": {"message": "exceeded your current quota, 250 per day"}}], "250 per day"),
    ],
)
def test_what_no_prompt_can_mend_stops_the_run_in_the_server_s_words(
    status: int, error: Any, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        verdict(fault(status, error), SENT, CONFIG)


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_of_hours_stops_the_run(status: int) -> None:
    with pytest.raises(RunError, match=r"asks to wait 7200 s, longer than a run sleeps \(no\)"):
        verdict(fault(status, retry_after="7200"), SENT, CONFIG)

"""What all asking stages share, shown with `select` and a server that lies."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from lying_server import Answer, LyingServer

from reasonray.core.errors import RunError
from reasonray.core.record import Row
from reasonray.core.sections import LanguageModelConfig, ModelConfig, SelectConfig, ServerConfig
from reasonray.models import openai_server
from reasonray.stages.select import Select

GOOD = json.dumps({"choice": 1, "reason": "It is the clearest."})


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(openai_server, "FIRST_OUTAGE_WAIT_S", 0.01)


def stage(server: LyingServer, **settings: Any) -> Select:
    language_model = LanguageModelConfig(
        model=ModelConfig(name="liar"),
        server=ServerConfig(base_url=server.url, **{"timeout_s": 20.0, **settings}),
    )
    return Select(SelectConfig(max_tokens=100), language_model, seed=3)


def rows(*captions: str) -> list[Row]:
    return [
        {
            "id": f"I/test/{caption}/0",
            "part": "I",
            "source": "test",
            "source_id": caption,
            "input_caption": caption,
            "edited_caption": "a bee",
            "direct_instruction": "turn it into a bee",
            "candidates": ["one thing", "another"],
            "candidate_rationales": ["a", "b"],
            "candidate_reasoning_types": ["causal", "causal"],
        }
        for caption in captions
    ]


def lies(bad: Answer) -> Callable[[dict[str, Any], int], Answer]:
    """To prompts that hold the word `bad`."""
    return lambda body, count: (
        bad if "bad" in body["messages"][1]["content"] else Answer(GOOD, delay=0.3)
    )


def test_a_reply_that_is_cut_off_is_asked_for_once_more_with_twice_the_room(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lambda body, count: (
        Answer(GOOD) if body["max_tokens"] > 100 else Answer(GOOD[:20], finish_reason="length")
    )
    [done] = stage(lying_server)(rows("a cat"))
    assert done["instruction"] == "one thing"
    short, long = (seen.body for seen in lying_server.seen)
    assert (short["max_tokens"], long["max_tokens"]) == (100, 200)
    assert short["messages"] == long["messages"]
    assert short["seed"] == long["seed"]


def test_a_reply_that_stays_cut_off_costs_two_tries_and_names_the_key(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lies(Answer("Let me think", finish_reason="length"))
    _, done = stage(lying_server)(rows("a cat", "a bad dog"))
    assert done["reason"] == "lm_failed"
    assert "Cut off at stages.select.max_tokens (100)" in (done["detail"] or "")
    assert sum("bad" in prompt for prompt in lying_server.prompts()) == 2


@pytest.mark.parametrize("num_written", [70, 150])
def test_a_reply_that_filled_the_context_is_not_asked_for_in_vain(
    lying_server: LyingServer, num_written: int
) -> None:
    """At once where the first limit of 100 was not reached, else at the doubled one."""

    def answer(body: dict[str, Any], count: int) -> Answer:
        if "bad" not in body["messages"][1]["content"]:
            return Answer(GOOD, delay=0.3)
        limit = min(num_written, body["max_tokens"])
        return Answer("Let me think", finish_reason="length", num_written=limit)

    lying_server.answer = answer
    _, done = stage(lying_server)(rows("a cat", "a bad dog"))
    assert done["reason"] == "lm_failed"
    assert (done["detail"] or "").endswith("Give the model a longer context.")
    assert f"after {num_written} of {200 if num_written > 100 else 100} tokens" in (
        done["detail"] or ""
    )
    assert len(lying_server.seen) == (3 if num_written > 100 else 2)


def test_a_model_that_goes_on_after_its_answer_has_answered(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(f"{GOOD}\nUser: and", finish_reason="length")
    [done] = stage(lying_server)(rows("a cat"))
    assert done["instruction"] == "one thing"
    assert len(lying_server.seen) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        Answer("", finish_reason="content_filter"),
        Answer(status=400, error={"message": "filtered", "code": "content_filter"}),
        Answer(status=451, error={"message": "Blocked by the upstream moderation."}),
    ],
)
def test_a_content_filter_is_a_rejection_of_its_own_and_asked_once(
    lying_server: LyingServer, refusal: Answer
) -> None:
    lying_server.answer = lies(refusal)
    _, *filtered = stage(lying_server)(rows("a cat", "bad 1", "bad 2", "bad 3", "bad 4"))
    assert [done["reason"] for done in filtered] == ["content_filter"] * 4
    assert all("content filter" in (done["detail"] or "") for done in filtered)
    assert len(lying_server.seen) == 5


ALIKE = {
    "cut off": (Answer("hm", finish_reason="length"), "stages.select.max_tokens"),
    "empty": (Answer(""), "is empty"),
    "prose": (Answer("I'm sorry, but I can't help with that."), "no JSON object"),
    "wrong form": (Answer('{"choice": "first", "reason": "x"}'), '"choice" must be'),
    "refused": (Answer(status=400, error={"message": "no template"}), "no template"),
    "500": (Answer(status=500, error={"message": "kaputt"}), "kaputt"),
    "login": (Answer(body=b"<html>Please log in</html>"), "Please log in"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_where_every_answer_fails_alike_the_run_stops_and_no_row_is_rejected(
    lying_server: LyingServer, name: str
) -> None:
    answer, words = ALIKE[name]
    lying_server.answer = lambda body, count: answer
    given = rows("a cat", "a dog", "a cow")
    with pytest.raises(RunError, match=r"stage select: the questions about 3 rows failed") as error:
        stage(lying_server, max_attempts=2)(given)
    assert words in str(error.value)
    assert all("stage" not in row for row in given)


@pytest.mark.parametrize("name", ALIKE)
def test_where_others_are_answered_the_failures_are_the_rows_own(
    lying_server: LyingServer, name: str
) -> None:
    lying_server.answer = lies(ALIKE[name][0])
    done = stage(lying_server, max_attempts=2)(rows("a cat", "bad 1", "bad 2", "bad 3", "bad 4"))
    assert [row.get("reason") is None for row in done] == [True, *[False] * 4]


@pytest.mark.parametrize(
    ("status", "words"),
    [(402, "Insufficient Balance"), (429, "free-models-per-day"), (503, "maintenance")],
)
def test_an_account_s_or_server_s_fault_in_mid_run_rejects_nothing(
    lying_server: LyingServer, status: int, words: str
) -> None:
    lying_server.answer = lambda body, count: (
        Answer(GOOD)
        if len(lying_server.seen) <= 2
        else Answer(status=status, error={"message": words})
    )
    given = rows(*map(str, range(8)))
    with pytest.raises(RunError, match=words):
        stage(lying_server, max_concurrency=1, max_attempts=2)(given)
    assert all("stage" not in row for row in given)


def test_a_row_is_asked_again_without_waiting_for_the_others(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: (
        Answer("hm" if count == 0 else GOOD)
        if "bad" in body["messages"][1]["content"]
        else Answer(GOOD, delay=1.0)
    )
    done = stage(lying_server)(rows("a slow cat", "a bad dog"))
    assert all(row.get("reason") is None for row in done)
    slow, *bad = sorted(lying_server.seen, key=lambda seen: "bad" in seen.prompt)
    assert len(bad) == 2
    assert max(seen.at for seen in bad) - slow.at < 0.9


def test_each_finished_row_is_told_to_who_wants_to_know(lying_server: LyingServer) -> None:
    lying_server.answer = lies(Answer("", finish_reason="content_filter"))
    select = stage(lying_server)
    advances: list[int] = []
    select.advance = advances.append
    alone = rows("alone")
    alone[0]["candidates"] = ["one thing"]
    select(rows("a cat", "a bad dog") + alone)
    assert sum(advances) == 3


def test_what_the_server_does_not_take_is_the_stage_s_to_say(lying_server: LyingServer) -> None:
    error = {"message": "Unsupported parameter: 'seed'", "param": "seed"}
    lying_server.answer = lambda body, count: (
        Answer(status=400, error=error) if "seed" in body else Answer(GOOD)
    )
    asking = stage(lying_server)
    asking(rows("a cat"))
    assert asking.notices == [
        f"language model: {lying_server.url}: requests are taken without seed"
    ]

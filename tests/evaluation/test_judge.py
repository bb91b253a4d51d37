"""The judge before servers that answer well, badly, slowly or not at all."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
from lying_server import Answer, LyingServer, prompt

from reasonray.core.errors import RunError, UserError
from reasonray.core.evaluation_sections import JudgeConfig
from reasonray.evaluation.items import JudgeCall
from reasonray.evaluation.judge import AXES, Asked, Judge, Judgement, edit_call, protocol
from reasonray.models import openai_server
from reasonray.prompts.replies import verdict_form, verdict_schema

RANGES = {"fit": (1, 5), "Quality": (0, 10)}
GOOD: dict[str, Any] = {
    "fit_reason": "The bee is there.",
    "fit": 4,
    "quality_reason": "Its left wing is smeared.",
    "quality": 7,
}
TEXT = json.dumps(GOOD)
SCORES = {"fit": 4, "Quality": 7}


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(openai_server, "FIRST_OUTAGE_WAIT_S", 0.01)


def judge(server: LyingServer, seed: int = 0, **settings: Any) -> Judge:
    ways = {"base_url": server.url, "timeout_s": 20.0, "max_attempts": 2}
    ways |= {name: settings.pop(name) for name in [*settings] if name == "timeout_s"}
    section = {"language_model": {"model": {"name": "liar"}, "server": ways}, **settings}
    return Judge(JudgeConfig.model_validate(section), seed=seed)


def picture(seed: int = 0, size: tuple[int, int] = (32, 24)) -> PIL.Image.Image:
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def asked(name: str, *pictures: PIL.Image.Image) -> Asked:
    return Asked(name, JudgeCall(f"Judge {name}.", pictures or (picture(),), RANGES, "fit"))


def lies(bad: Answer) -> Callable[[dict[str, Any], int], Answer]:
    """To questions that hold the word `bad`."""
    return lambda body, count: bad if "bad" in prompt(body) else Answer(TEXT)


def only(judgements: list[Judgement]) -> Judgement:
    [judgement] = judgements
    return judgement


WELL = {
    "plain": Answer(TEXT),
    "slowly": Answer(TEXT, delay=0.3),
    "with prose around it": Answer(f"Let me see.\n{TEXT}\nI hope that helps! {{smile}}"),
    "in a fence": Answer(f"```json\n{TEXT}\n```"),
    "after thoughts": Answer(f"<think>A 2? {TEXT.replace('4', '2')} No.</think>\n{TEXT}"),
    "after thoughts begun in the prompt": Answer(f'{{"fit": 1}} hm</think>{TEXT}'),
    "with thoughts beside it": Answer(TEXT, thoughts='{"fit": 1, "fit_reason": "at first"}'),
    "as thoughts alone": Answer("", thoughts=TEXT),
    "after the form": Answer(f"{verdict_form(RANGES)}\n{TEXT}"),
    "twice": Answer(f"{TEXT.replace('4', '2')}\nOn second thoughts: {TEXT}"),
    "in another object": Answer(json.dumps({"verdict": GOOD})),
    "with scores as texts": Answer(json.dumps(GOOD | {"fit": "4/5", "quality": "7.0"})),
    "in capitals": Answer(json.dumps({name.upper(): value for name, value in GOOD.items()})),
    "and on and on": Answer(f"{TEXT}\nUser: and", finish_reason="length"),
}


@pytest.mark.parametrize("way", WELL)
def test_a_judge_that_answers_well_is_understood(lying_server: LyingServer, way: str) -> None:
    lying_server.answer = lambda body, count: WELL[way]
    judgement = only(judge(lying_server)([asked("a")]))
    assert judgement.axes == SCORES
    assert judgement.verdicts[0].reasons["Quality"] == "Its left wing is smeared."
    assert judgement.failures == []
    assert len(lying_server.seen) == 1


BADLY = {
    "out of range": (Answer(json.dumps(GOOD | {"fit": 6})), "invalid_reply", "from 1 to 5"),
    "a half": (Answer(json.dumps(GOOD | {"fit": 4.5})), "invalid_reply", '"fit"'),
    "of another scale": (Answer(json.dumps(GOOD | {"fit": "4/10"})), "invalid_reply", '"fit"'),
    "a range": (Answer(json.dumps(GOOD | {"fit": "3-4"})), "invalid_reply", '"fit"'),
    "true": (Answer(json.dumps(GOOD | {"fit": True})), "invalid_reply", '"fit"'),
    "none": (Answer(json.dumps(GOOD | {"fit": None})), "invalid_reply", '"fit"'),
    "no reason": (Answer(json.dumps(GOOD | {"fit_reason": "..."})), "invalid_reply", "reason"),
    "an axis short": (
        Answer('{"fit_reason": "It is there.", "fit": 4}'),
        "invalid_reply",
        '"quality_reason"',
    ),
    "a digit in prose": (Answer("Fit: 4, quality: 7."), "invalid_reply", "no JSON object"),
    "its form alone": (Answer(verdict_form(RANGES)), "invalid_reply", "JSON"),
    "empty": (Answer(""), "invalid_reply", "empty"),
    "thoughts alone": (Answer(f"<think>{TEXT}"), "invalid_reply", "thoughts alone"),
    "sorry": (Answer("I'm sorry, but I can't judge people."), "invalid_reply", "I'm sorry"),
    "a refusal": (Answer("", refusal="I can't judge people."), "refused", "can't judge people"),
    "a filter": (Answer("", finish_reason="content_filter"), "content_filter", "content filter"),
    "cut off": (
        Answer(TEXT[:30], finish_reason="length"),
        "cut_off",
        "evaluation.judge.max_tokens (1024)",
    ),
    "a full context": (
        Answer(TEXT[:30], finish_reason="length", num_written=70),
        "context_full",
        "longer context",
    ),
}


@pytest.mark.parametrize("way", BADLY)
def test_a_judge_that_always_answers_badly_gives_counted_failures_and_no_score(
    lying_server: LyingServer, way: str
) -> None:
    bad, reason, words = BADLY[way]
    lying_server.answer = lambda body, count: bad
    judgements = judge(lying_server, num_retries=1)([asked(str(i)) for i in range(5)])
    for judgement in judgements:
        assert (judgement.axes, judgement.spread) == ({}, {})
        [failure] = judgement.failures
        assert failure.reason == reason
        assert words in failure.detail


@pytest.mark.parametrize("way", BADLY)
def test_a_bad_answer_is_one_question_s_failure(lying_server: LyingServer, way: str) -> None:
    lying_server.answer = lies(BADLY[way][0])
    first, bad, last = judge(lying_server)([asked("a"), asked("bad"), asked("c")])
    assert (first.axes, bad.axes, last.axes) == (SCORES, {}, SCORES)


def test_a_bad_reply_is_asked_for_again_with_the_reason_and_the_pictures(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lambda body, count: Answer(TEXT if count else '{"fit": 9}')
    assert only(judge(lying_server)([asked("a", picture(1), picture(2))])).axes == SCORES
    first, again = lying_server.seen
    assert '"fit_reason" must hold' in again.body["messages"][-1]["content"]
    assert [len(seen.pictures) for seen in (first, again)] == [2, 2]
    assert first.body["seed"] != again.body["seed"]


@pytest.mark.slow
def test_a_question_without_an_answer_in_time_fails_alone(lying_server: LyingServer) -> None:
    lying_server.answer = lies(Answer(hangs=True))
    first, bad = judge(lying_server, timeout_s=1.0)([asked("a"), asked("bad")])
    assert first.axes == SCORES
    assert "within" in bad.failures[0].detail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(status=500, error={"message": "kaputt"}), "kaputt"),
        (Answer(status=400, error={"message": "no template"}), "no template"),
        (Answer(body=b"<html>Please log in</html>"), "Please log in"),
        (Answer(status=401, error={"message": "no key"}), "OPENAI_API_KEY"),
        (Answer(status=400, error={"message": "This model does not support images"}), "sees"),
    ],
)
def test_a_server_s_fault_stops_the_run_and_is_no_question_s(
    lying_server: LyingServer, answer: Answer, words: str
) -> None:
    lying_server.answer = lambda body, count: answer
    with pytest.raises(RunError, match=words) as error:
        judge(lying_server)([asked(str(i)) for i in range(4)])
    assert "\n" not in str(error.value)


def test_what_is_sent_is_the_prompt_the_pictures_and_the_form(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(TEXT)
    large, small = picture(1, (300, 150)), picture(2)
    judge(lying_server, max_side=100, max_tokens=333)([asked("a", large, small)])
    [seen] = lying_server.seen
    [turn] = seen.body["messages"]
    assert [part["type"] for part in turn["content"]] == ["text", "image_url", "image_url", "text"]
    assert turn["content"][0]["text"] == "Judge a."
    assert verdict_form(RANGES) in turn["content"][-1]["text"]
    assert [each.size for each in seen.pictures] == [(100, 50), (32, 24)]
    assert (np.asarray(seen.pictures[1]) == np.asarray(small)).all()
    assert (seen.body["temperature"], seen.body["max_tokens"]) == (0.0, 333)
    schema = seen.body["response_format"]["json_schema"]["schema"]
    assert schema == verdict_schema(RANGES)
    assert list(schema["properties"]) == ["fit_reason", "fit", "quality_reason", "quality"]


def test_repeats_give_a_mean_and_its_spread_and_each_failure_counts(
    lying_server: LyingServer,
) -> None:
    seeds: list[int] = []

    def answer(body: dict[str, Any], count: int) -> Answer:
        if body["seed"] not in seeds:
            seeds.append(body["seed"])
        score = {0: 2, 1: 4, 2: 9}[seeds.index(body["seed"])]
        return Answer(json.dumps(GOOD | {"fit": score}))

    lying_server.answer = answer
    asking = judge(lying_server, num_repeats=3, num_retries=0)
    judgement = only(asking([asked("a")]))
    assert judgement.axes == {"fit": 3, "Quality": 7}
    assert judgement.spread == {"fit": pytest.approx(2**0.5), "Quality": 0}
    assert [failure.reason for failure in judgement.failures] == ["invalid_reply"]


def test_an_answer_belongs_to_its_question_in_whatever_company_and_order(
    lying_server: LyingServer,
) -> None:
    def answer(body: dict[str, Any], count: int) -> Answer:
        score = 1 + body["seed"] % 5
        return Answer(json.dumps(GOOD | {"fit": score}), delay=0.02 * (body["seed"] % 3))

    lying_server.answer = answer
    asking = judge(lying_server, num_repeats=2)
    questions = [asked(str(i)) for i in range(6)]
    together = asking(questions)
    assert asking(questions[::-1]) == together[::-1]
    assert [only(asking([each])) for each in questions] == together
    assert len({each.axes["fit"] for each in together}) > 1
    assert judge(lying_server, seed=1, num_repeats=2)(questions) != together


def test_tokens_and_progress_are_told_as_they_come(lying_server: LyingServer) -> None:
    lying_server.answer = lies(Answer("", refusal="no"))
    asking = judge(lying_server)
    spent: list[tuple[int, int]] = []
    advances: list[int] = []
    asking.spent = lambda read, written: spent.append((read, written))
    asking.advance = advances.append
    asking([asked("a"), asked("bad")])
    assert (spent, advances) == ([(60, 40)] * 2, [1, 1])


def test_a_figure_s_stamp_names_model_prompts_and_every_setting(lying_server: LyingServer) -> None:
    config = judge(lying_server, num_repeats=2).config
    assert protocol(config, seed=3) == {
        "model": "liar",
        "revision": None,
        "backend": "openai",
        "prompts": [{"name": "P_verdict", "version": "1"}, {"name": "P_again", "version": "1"}],
        "seed": 3,
        "num_repeats": 2,
        "temperature": 0.0,
        "max_tokens": 1024,
        "num_retries": 3,
        "max_side": 768,
    }


def test_what_the_server_does_not_take_of_the_protocol_is_noticed(
    lying_server: LyingServer,
) -> None:
    error = {"message": "Unsupported value: 'temperature'", "param": "temperature"}
    lying_server.answer = lambda body, count: (
        Answer(status=400, error=error) if "temperature" in body else Answer(TEXT)
    )
    asking = judge(lying_server)
    asking([asked("a")])
    assert asking.notices == [
        f"language model: {lying_server.url}: requests are taken without temperature"
    ]


def test_a_judge_without_a_model_says_which_key_names_one() -> None:
    with pytest.raises(UserError, match=r"evaluation\.judge\.language_model"):
        Judge(JudgeConfig(), seed=0)


def test_our_own_question_tells_the_instruction_and_what_should_be_seen(
    lying_server: LyingServer,
) -> None:
    before, edited = picture(1), picture(2)
    call = edit_call(before, edited, "Show what\nit makes.", "some $honey")
    assert call.prompt.endswith(
        "Instruction: Show what it makes.\nWhat should be seen afterwards: some $honey"
    )
    assert edit_call(before, edited, "Go.").prompt.endswith("Instruction: Go.")
    reply: dict[str, Any] = {}
    for axis in AXES:
        reply |= {f"{axis}_reason": "So it is.", axis: 5}
    lying_server.answer = lambda body, count: Answer(json.dumps(reply))
    assert only(judge(lying_server)([Asked("a", call)])).axes == dict.fromkeys(AXES, 5)
    assert (np.asarray(lying_server.seen[0].pictures[1]) == np.asarray(edited)).all()

"""The exchange driven by hand; with a server in `test_asks` and the judge's tests."""

from collections.abc import Generator, Sequence
from typing import Any

from reasonray.core.sections import SelectConfig
from reasonray.models.language_model import ReplyFailure, Request
from reasonray.prompts.replies import ReplyError
from reasonray.stages.exchange import MAX_QUOTED, RETRY_TEMPERATURE, NoReply, Question, exchange

QUESTION = [{"role": "user", "content": [{"type": "image", "image": "any"}]}]


def number(text: str) -> int:
    if not text.isdigit():
        raise ReplyError("invalid_reply", "It is no number.")
    return int(text)


def talk(
    *replies: str | ReplyFailure, num_retries: int = 2, temperature: float = 0.0
) -> tuple[int | NoReply, list[Request]]:
    """What comes of these replies, and what was asked."""
    dialogue: Generator[Request, str | ReplyFailure, int | NoReply] = exchange(
        Question(QUESTION, {}, number),
        SelectConfig(num_retries=num_retries, temperature=temperature, max_tokens=10),
        key="section",
        seed=lambda attempt: 100 + attempt,
        spent=lambda read, written: None,
    )
    requests = [next(dialogue)]
    for reply in replies:
        try:
            requests.append(dialogue.send(reply))
        except StopIteration as end:
            return end.value, requests
    raise AssertionError("it asks on")


def last_texts(messages: Sequence[Any]) -> list[str]:
    return [turn["content"] for turn in messages[1:]]


def test_a_bad_reply_is_quoted_with_what_is_wrong_behind_the_question_as_it_was() -> None:
    answer, [first, second] = talk("x" * 9999, "7")
    assert answer == 7
    assert (first.messages, second.messages[:1]) == (QUESTION, QUESTION)
    quoted, reason = last_texts(second.messages)
    assert quoted == "x" * MAX_QUOTED
    assert "It is no number." in reason


def test_a_try_has_a_seed_of_its_own_and_the_later_ones_are_warm() -> None:
    _, requests = talk("a", "b", "3")
    assert [request.seed for request in requests] == [100, 101, 102]
    assert [request.temperature for request in requests] == [0.0, *[RETRY_TEMPERATURE] * 2]
    _, requests = talk("a", "3", temperature=1.2)
    assert [request.temperature for request in requests] == [1.2, 1.2]


def test_after_the_last_try_the_failure_tells_why_and_how_the_reply_began() -> None:
    answer, requests = talk("a", "b", num_retries=1)
    assert answer == NoReply(
        "invalid_reply", "It is no number. (last of 2 tries: b)", "It is no number."
    )
    assert len(requests) == 2


def test_a_failure_of_the_backend_keeps_its_reason_and_is_not_asked_for_again() -> None:
    for reason in ("lm_failed", "refused", "content_filter"):
        answer, requests = talk(ReplyFailure("After 6 tries: no.", reason))
        assert answer == NoReply(reason, "After 6 tries: no.", "After # tries: no.")
        assert len(requests) == 1


def test_a_reply_that_is_cut_off_gets_twice_the_room_once() -> None:
    cut = ReplyFailure("the reply filled all 10 tokens", "cut_off", "1a")
    answer, requests = talk(cut, cut)
    assert [request.max_tokens for request in requests] == [10, 20]
    assert isinstance(answer, NoReply)
    assert answer.reason == "cut_off"
    assert answer.detail.startswith("Cut off at section.max_tokens (10): ")
    assert talk(cut, "5")[0] == 5
    assert talk(ReplyFailure("", "cut_off", "12"))[0] == 12

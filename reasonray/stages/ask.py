"""Asks a language model until the reply is valid, a few times at most: for `rewrite`, `select`
and `propose`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from reasonray.core.record import sample_seed
from reasonray.models.language_model import LanguageModel, ReplyFailure, Request
from reasonray.prompts.replies import ReplyError
from reasonray.prompts.template import Message, ask_again

Reply = TypeVar("Reply")

RETRY_TEMPERATURE = 0.7
"""Least temperature when asked again: a greedy model would repeat its fault."""

MAX_QUOTED = 4000
"""Characters of a bad reply that are shown to the model again."""

REJECTS = {
    "invalid_reply": "no reply of the language model had the required form",
    "lm_failed": "the language model gave no reply to this prompt",
}
"""What any stage that asks can reject a row for."""


@dataclass(frozen=True)
class Question(Generic[Reply]):
    """What is asked about one row, and how the reply is read (`parse` raises `ReplyError`)."""

    row_id: str
    messages: list[Message]
    json_schema: dict[str, Any]
    parse: Callable[[str], Reply]


@dataclass(frozen=True)
class Unanswered:
    """No valid reply: the last fault's code and a sentence."""

    reason: str
    detail: str


def ask(
    language_model: LanguageModel,
    questions: Sequence[Question[Reply]],
    *,
    stage: str,
    seed: int,
    num_retries: int,
    temperature: float,
    max_tokens: int,
) -> list[Reply | Unanswered]:
    """A parsed reply or `Unanswered` for each question, in order.

    Only the questions whose reply was invalid are asked again, with the reason. A request that
    the backend has given up on is not: it has its own retries.

    Args:
        language_model: who answers.
        questions: one a row.
        stage, seed: with the row's id and the attempt they give each request its seed.
        num_retries: times a question is asked again.
        temperature: of the first attempt.
        max_tokens: of one reply.

    Raises:
        RunError: from the backend.
    """
    answers: list[Reply | Unanswered] = [Unanswered("lm_failed", "") for _ in questions]
    requests = {
        index: Request(question.messages, question.json_schema, 0, temperature, max_tokens)
        for index, question in enumerate(questions)
    }
    for attempt in range(num_retries + 1):
        if not requests:
            break
        seeded = [
            replace(request, seed=sample_seed(seed, questions[index].row_id, stage, attempt))
            for index, request in requests.items()
        ]
        texts = language_model.reply(seeded)
        again: dict[int, Request] = {}
        for (index, request), text in zip(requests.items(), texts, strict=True):
            question = questions[index]
            if isinstance(text, ReplyFailure):
                answers[index] = Unanswered("lm_failed", text.detail)
                continue
            try:
                answers[index] = question.parse(text)
            except ReplyError as error:
                answers[index] = Unanswered(error.code, _detail(error.reason, attempt + 1, text))
                chat = ask_again(question.messages, text[:MAX_QUOTED], error.reason)
                warmth = max(temperature, RETRY_TEMPERATURE)
                again[index] = replace(request, messages=chat, temperature=warmth)
        requests = again
    return answers


def _detail(reason: str, count: int, text: str) -> str:
    """For the rejection: why the last reply was refused, and how it began."""
    shown = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
    return f"{reason} (last of {count} tries: {shown})"

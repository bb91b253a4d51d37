"""A question to a language model, asked until its reply is valid: stages' and judges' way."""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from reasonray.models.language_model import FailureReason, ReplyFailure, Request
from reasonray.prompts.replies import ReplyError, ReplyFault
from reasonray.prompts.template import ask_again
from reasonray.stages.alike import manner

Reply = TypeVar("Reply")

RETRY_TEMPERATURE = 0.7
"""Least temperature when asked again: a greedy model would repeat its fault."""

MAX_QUOTED = 4000
"""Characters of a bad reply that are shown to the model again."""


@dataclass(frozen=True)
class Question(Generic[Reply]):
    """What is asked, and how the reply is read (`parse` raises `ReplyError`)."""

    messages: Sequence[Mapping[str, Any]]
    json_schema: dict[str, Any]
    parse: Callable[[str], Reply]


class AskingConfig(Protocol):
    """The keys of a recipe's section that asks."""

    @property
    def num_retries(self) -> int:
        """Times an invalid reply is asked for again."""
        ...

    @property
    def temperature(self) -> float:
        """Of the first try."""
        ...

    @property
    def max_tokens(self) -> int:
        """Of one reply."""
        ...


@dataclass(frozen=True)
class NoReply:
    """A question that got no valid reply.

    Attributes:
        reason: of the backend's last failure, or what was wrong with the last reply.
        detail: one sentence.
        manner: the same for failures that have one cause.
    """

    reason: FailureReason | ReplyFault
    detail: str
    manner: str


def exchange(
    question: Question[Reply],
    config: AskingConfig,
    *,
    key: str,
    seed: Callable[[int], int],
    spent: Callable[[int, int], None],
) -> Generator[Request, str | ReplyFailure, Reply | NoReply]:
    """Ask until the reply is valid: a part of a `Dialogue`.

    Only where a reply was invalid it is asked again, with the reason. A request that the backend
    has given up on is not repeated: the backend has its own retries.

    Args:
        question: to be asked.
        config: how often, how warm and how long.
        key: of the recipe's section, for messages.
        seed: of each try, from 0.
        spent: as `Request.spent`.
    """
    messages = question.messages
    for attempt in range(config.num_retries + 1):
        warmth = max(config.temperature, RETRY_TEMPERATURE) if attempt else config.temperature
        text = yield from _whole_reply(
            Request(
                messages, question.json_schema, seed(attempt), warmth, config.max_tokens, spent
            ),
            question,
            f"{key}.max_tokens",
        )
        if isinstance(text, ReplyFailure):
            return NoReply(text.reason, text.detail, manner(text.detail))
        try:
            return question.parse(text)
        except ReplyError as error:
            failure = NoReply(error.code, _detail(error.reason, attempt + 1, text), error.reason)
            messages = ask_again(question.messages, text[:MAX_QUOTED], error.reason)
    return failure


def _whole_reply(
    request: Request, question: Question[Any], key: str
) -> Generator[Request, str | ReplyFailure, str | ReplyFailure]:
    """The reply; one that was cut off is asked for once more with twice the room."""
    reply = yield request
    if not isinstance(reply, ReplyFailure) or reply.reason not in ("cut_off", "context_full"):
        return reply
    if _is_valid(reply.text, question):
        return reply.text  # small models go on and on after their answer
    if reply.reason == "context_full":
        return _without_room(reply)
    longer = dataclasses.replace(request, max_tokens=2 * request.max_tokens)
    again = yield longer
    if not isinstance(again, ReplyFailure):
        return again
    if _is_valid(again.text, question):
        return again.text
    if again.reason == "context_full":
        return _without_room(again)
    return ReplyFailure(
        f"Cut off at {key} ({request.max_tokens}): {reply.detail}; asked again with twice as many: "
        f"{again.detail.rstrip('.')}. Raise {key}.",
        again.reason,
    )


def _without_room(reply: ReplyFailure) -> ReplyFailure:
    """What a person is told of a reply for which the context was too short."""
    detail = reply.detail[0].upper() + reply.detail[1:]
    return ReplyFailure(f"{detail}. Give the model a longer context.", reply.reason)


def _is_valid(text: str, question: Question[Any]) -> bool:
    try:
        question.parse(text)
    except ReplyError:
        return False
    return True


def _detail(reason: str, count: int, text: str) -> str:
    """Why the last reply was refused, and how it began."""
    beginning = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    beginning = beginning if len(beginning) <= 200 else f"{beginning[:200]}…"
    return f"{reason} (last of {count} tries: {beginning})"

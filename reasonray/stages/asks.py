"""The base of the stages that ask a language model: `rewrite`, `select` and `propose`."""

import dataclasses
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from reasonray.core.record import Row, reject, sample_seed
from reasonray.core.sections import (
    ASKING,
    LanguageModelConfig,
    ProposeConfig,
    RewriteConfig,
    SelectConfig,
)
from reasonray.models.language_model import (
    Dialogue,
    ReplyFailure,
    Request,
    load_language_model,
    revision,
)
from reasonray.prompts.replies import ReplyError
from reasonray.prompts.template import Message, ask_again, load
from reasonray.stages.alike import Failure, FailuresAlike, manner
from reasonray.stages.stage import Stage

Reply = TypeVar("Reply")

RETRY_TEMPERATURE = 0.7
"""Least temperature when asked again: a greedy model would repeat its fault."""

MAX_QUOTED = 4000
"""Characters of a bad reply that are shown to the model again."""


@dataclass(frozen=True)
class Question(Generic[Reply]):
    """What is asked about one row, and how the reply is read (`parse` raises `ReplyError`)."""

    messages: list[Message]
    json_schema: dict[str, Any]
    parse: Callable[[str], Reply]


class Asks(Stage, Generic[Reply]):
    """Asks until the reply is valid, a few times at most; subclasses say what, and what follows."""

    rejects: ClassVar[Mapping[str, str]] = {
        "invalid_reply": "no reply of the language model had the required form",
        "lm_failed": "the language model gave no reply to this prompt",
        "content_filter": "the server's content filter refused this prompt or its reply",
    }

    def __init__(
        self,
        config: RewriteConfig | SelectConfig | ProposeConfig,
        language_model: LanguageModelConfig,
        *,
        seed: int,
    ) -> None:
        self.config = config
        self.seed = seed
        self.language_model = load_language_model(language_model)
        self.notices = self.language_model.notices
        self.prompt = load(ASKING[self.name])
        name, commit = language_model.model.name, revision(language_model)
        self.models = [{"stage": self.name, "name": name, "revision": commit}]
        self.prompts = [self.prompt.provenance, load("again").provenance]
        self._alike = FailuresAlike(
            f"stage {self.name}: the questions about",
            "Look at the server and at language_model",
            few=3,
        )

    def question(self, row: Row) -> Question[Reply] | None:
        """What is asked about a row; None where the row is done, or rejected, without asking."""
        raise NotImplementedError

    def answered(self, row: Row, reply: Reply) -> None:
        """Write a valid reply into its row."""
        raise NotImplementedError

    def process(self, rows: list[Row]) -> None:
        """Ask about the rows, each on its own; reject those that get no valid reply.

        Raises:
            RunError: from the backend, or where all fail alike.
        """
        talk = _Talk()
        dialogues = []
        for row in rows:
            question = self.question(row)
            if question is None:
                self.advance(1)
            else:
                dialogues.append(self._ask(row, question, talk))
        self._alike.begin(len(dialogues))
        try:
            self.language_model.converse(dialogues)
        except BaseException:
            self._alike.drop(len(dialogues))
            raise
        self._alike.settle(len(dialogues), talk.num_well, talk.failures)

    def _ask(self, row: Row, question: Question[Reply], talk: "_Talk") -> Dialogue:
        """Ask about one row until the reply is valid; write it or the rejection into the row.

        Only where a reply was invalid it is asked again, with the reason. A request that the
        backend has given up on is not repeated: the backend has its own retries.
        """
        config, messages = self.config, question.messages
        for attempt in range(config.num_retries + 1):
            warmth = max(config.temperature, RETRY_TEMPERATURE) if attempt else config.temperature
            seed = sample_seed(self.seed, row["id"], self.name, attempt)
            text = yield from self._whole_reply(
                Request(
                    messages, question.json_schema, seed, warmth, config.max_tokens, self.spent
                ),
                question,
            )
            if isinstance(text, ReplyFailure):
                if text.reason == "content_filter":
                    reject(row, self.name, "content_filter", text.detail)
                else:
                    reject(row, self.name, "lm_failed", text.detail)
                    talk.failures.append(Failure(manner(text.detail), text.detail))
                break
            try:
                reply = question.parse(text)
            except ReplyError as error:
                messages = ask_again(question.messages, text[:MAX_QUOTED], error.reason)
                if attempt == config.num_retries:
                    detail = _detail(error.reason, attempt + 1, text)
                    reject(row, self.name, error.code, detail)
                    talk.failures.append(Failure(error.reason, detail))
            else:
                self.answered(row, reply)
                talk.num_well += 1
                break
        self.advance(1)

    def _whole_reply(
        self, request: Request, question: Question[Reply]
    ) -> Generator[Request, str | ReplyFailure, str | ReplyFailure]:
        """The reply; one that was cut off is asked for once more with twice the room."""
        reply = yield request
        if not isinstance(reply, ReplyFailure) or reply.reason not in ("cut_off", "context_full"):
            return reply
        if _is_valid(reply.text, question):
            return reply.text  # small models go on and on after their answer
        if reply.reason == "context_full":
            return _without_room(reply)
        key = f"stages.{self.name}.max_tokens ({request.max_tokens})"
        longer = dataclasses.replace(request, max_tokens=2 * request.max_tokens)
        again = yield longer
        if not isinstance(again, ReplyFailure):
            return again
        if _is_valid(again.text, question):
            return again.text
        if again.reason == "context_full":
            return _without_room(again)
        return ReplyFailure(
            f"Cut off at {key}: {reply.detail}; asked again with twice as many: "
            f"{again.detail.rstrip('.')}. Raise {key.partition(' ')[0]}."
        )


@dataclass
class _Talk:
    """What has become of a batch's questions so far."""

    num_well: int = 0
    failures: list[Failure] = field(default_factory=list)


def _without_room(reply: ReplyFailure) -> ReplyFailure:
    """What a person is told of a reply for which the context was too short."""
    detail = reply.detail[0].upper() + reply.detail[1:]
    return ReplyFailure(f"{detail}. Give the model a longer context.")


def _is_valid(text: str, question: Question[Any]) -> bool:
    try:
        question.parse(text)
    except ReplyError:
        return False
    return True


def _detail(reason: str, count: int, text: str) -> str:
    """For the rejection: why the last reply was refused, and how it began."""
    beginning = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    beginning = beginning if len(beginning) <= 200 else f"{beginning[:200]}…"
    return f"{reason} (last of {count} tries: {beginning})"

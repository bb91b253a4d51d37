"""The base of the stages that ask a language model: `rewrite`, `select` and `propose`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from reasonray.core.record import Row, reject, sample_seed
from reasonray.core.sections import (
    ASKING,
    LanguageModelConfig,
    ProposeConfig,
    RewriteConfig,
    SelectConfig,
)
from reasonray.models.language_model import ReplyFailure, Request, load_language_model, revision
from reasonray.prompts.replies import ReplyError
from reasonray.prompts.template import Message, ask_again, load
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
        self.prompt = load(ASKING[self.name])
        name, commit = language_model.model.name, revision(language_model)
        self.models = [{"stage": self.name, "name": name, "revision": commit}]
        self.prompts = [self.prompt.provenance, load("again").provenance]

    def question(self, row: Row) -> Question[Reply] | None:
        """What is asked about a row; None where the row is done, or rejected, without asking."""
        raise NotImplementedError

    def answered(self, row: Row, reply: Reply) -> None:
        """Write a valid reply into its row."""
        raise NotImplementedError

    def process(self, rows: list[Row]) -> None:
        """Ask about the rows, together; reject those that get no valid reply.

        Only where a reply was invalid it is asked again, with the reason. A request that the
        backend has given up on is not repeated: the backend has its own retries.

        Raises:
            RunError: from the backend.
        """
        config = self.config
        questions = [(row, self.question(row)) for row in rows]
        pending = [(row, each, each.messages) for row, each in questions if each is not None]
        for attempt in range(config.num_retries + 1):
            if not pending:
                break
            warmth = max(config.temperature, RETRY_TEMPERATURE) if attempt else config.temperature
            texts = self.language_model.reply(
                [
                    Request(
                        messages,
                        question.json_schema,
                        sample_seed(self.seed, row["id"], self.name, attempt),
                        warmth,
                        config.max_tokens,
                    )
                    for row, question, messages in pending
                ]
            )
            again = []
            for (row, question, _), text in zip(pending, texts, strict=True):
                if isinstance(text, ReplyFailure):
                    reject(row, self.name, "lm_failed", text.detail)
                    continue
                try:
                    reply = question.parse(text)
                except ReplyError as error:
                    if attempt < config.num_retries:
                        messages = ask_again(question.messages, text[:MAX_QUOTED], error.reason)
                        again.append((row, question, messages))
                    else:
                        detail = _detail(error.reason, attempt + 1, text)
                        reject(row, self.name, error.code, detail)
                else:
                    self.answered(row, reply)
            pending = again


def _detail(reason: str, count: int, text: str) -> str:
    """For the rejection: why the last reply was refused, and how it began."""
    beginning = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    beginning = beginning if len(beginning) <= 200 else f"{beginning[:200]}…"
    return f"{reason} (last of {count} tries: {beginning})"

"""What every language model is to us: chats in, texts or failures out.

The backends are in files of their own, imported when a recipe names them.
"""

import functools
import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from reasonray.core.sections import LanguageModelConfig


@dataclass(frozen=True)
class Request:
    """One chat to be continued.

    Attributes:
        messages: turns with `role` (system, user, assistant) and `content`: a text, or parts of
            which some are pictures (`chat_pictures`).
        json_schema: the reply's form, for backends that can enforce it; None: free text.
        seed: of this reply's sampling, 0..2^63-1.
        temperature: 0 takes the likeliest token.
        max_tokens: of the reply.
        spent: called with the tokens read and written, thoughts included, once for each reply; from
            any thread. Where a server does not count, they are guessed from letters and from
            pictures' areas.
    """

    messages: Sequence[Mapping[str, object]]
    json_schema: dict[str, Any] | None
    seed: int
    temperature: float
    max_tokens: int
    spent: Callable[[int, int], None] = field(default=lambda read, written: None, compare=False)


_FULL = 0.9
"""Part of its limit from which on a reply that was cut off has reached it."""

FailureReason = Literal["lm_failed", "refused", "content_filter", "cut_off", "context_full"]


@dataclass(frozen=True)
class ReplyFailure:
    """A request that got no whole reply.

    Attributes:
        detail: one sentence.
        reason: refused: the model's own words say that it will not answer;
            content_filter: the server's filter stood in the way, another try is in vain;
            cut_off: the reply reached the request's `max_tokens`; context_full: there was no
            room for so many, a larger limit is in vain.
        text: what there was of a reply that was cut off, by whichever of the two.
    """

    detail: str
    reason: FailureReason = "lm_failed"
    text: str = ""


def reached_limit(
    text: str, max_tokens: int, num_written: int | None = None, *, has_thoughts: bool = False
) -> ReplyFailure:
    """The failure of a reply that reached its limit, or filled the model's context before that.

    Args:
        text: of the reply.
        max_tokens: of the request.
        num_written: tokens of the reply, thoughts included; None: not known.
        has_thoughts: whether there were thoughts beside the text.
    """
    what = "thoughts alone" if has_thoughts and not text.strip() else "the reply"
    # Not by a few tokens: servers count the ones that end a turn or not.
    if num_written is not None and num_written < _FULL * max_tokens:
        where = f"after {num_written} of {max_tokens} tokens"
        return ReplyFailure(f"{what} filled the model's context {where}", "context_full", text)
    return ReplyFailure(f"{what} filled all {max_tokens} tokens", "cut_off", text)


Dialogue = Generator[Request, "str | ReplyFailure", None]
"""Asks until it has what it needs: yields a request, is sent the reply, yields the next or ends."""


class LanguageModel(Protocol):
    """Anything that answers requests.

    Attributes:
        notices: sentences for a person on how requests are taken; grows while they are.
    """

    notices: Sequence[str]

    def converse(self, dialogues: Sequence[Dialogue]) -> None:
        """Answer each dialogue's requests until it ends; independent of the other dialogues.

        May be called from several threads at once only where the backend says so.

        Raises:
            RunError: the model cannot go on for any request (server gone, budget spent).
        """
        ...

    def reply(self, requests: Sequence[Request]) -> list[str | ReplyFailure]:
        """One text or failure for each request, in order.

        Raises:
            RunError: as `converse`.
        """
        ...


def converse_in_rounds(
    dialogues: Sequence[Dialogue],
    reply: Callable[[Sequence[Request]], Sequence[str | ReplyFailure]],
) -> None:
    """Dialogues with a model that answers many requests at once: all first ones, then the next."""
    pending = [(dialogue, next(dialogue)) for dialogue in dialogues]
    while pending:
        replies = reply([request for _, request in pending])
        answered = zip(pending, replies, strict=True)
        following = [(dialogue, next_request(dialogue, text)) for (dialogue, _), text in answered]
        pending = [(dialogue, request) for dialogue, request in following if request is not None]


def next_request(dialogue: Dialogue, reply: str | ReplyFailure) -> Request | None:
    """What a dialogue asks after a reply; None: it has ended."""
    try:
        return dialogue.send(reply)
    except StopIteration:
        return None


BACKENDS = {
    "openai": "reasonray.models.openai_server:OpenAIServer",
    "serve": "reasonray.models.openai_server:OpenAIServer",
    "vllm": "reasonray.models.vllm_engine:VLLMEngine",
    "transformers": "reasonray.models.transformers_model:TransformersModel",
}


def load_language_model(config: LanguageModelConfig) -> LanguageModel:
    """The configured model; stages in one process that name the same one share it.

    Raises:
        UserError: no such weights, or no key for the server.
    """
    return _loaded(config.model_dump_json())


@functools.cache
def _loaded(settings: str) -> LanguageModel:
    config = LanguageModelConfig.model_validate_json(settings)
    module, _, name = BACKENDS[config.backend].partition(":")
    return cast(LanguageModel, getattr(importlib.import_module(module), name)(config))


def served_name(config: LanguageModelConfig) -> str:
    """The model as its server is asked for it; what Ray Serve has after a colon is an adapter."""
    name = config.model.name
    return name.rpartition(":")[2] if config.backend == "serve" else name


def revision(config: LanguageModelConfig) -> str | None:
    """The configured revision, else the commit that was loaded here; a server's is not known."""
    if config.has_server:
        return config.model.revision
    from reasonray.models import weights

    return weights.revision(config.model)

"""What every language model is to us: a batch of chats in, a batch of texts or failures out.

The backends are in files of their own, imported when a recipe names them.
"""

import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from reasonray.core.sections import LanguageModelConfig


@dataclass(frozen=True)
class Request:
    """One chat to be continued.

    Attributes:
        messages: turns with `role` (system, user, assistant) and `content`.
        json_schema: the reply's form, for backends that can enforce it; None: free text.
        seed: of this reply's sampling, 0..2^63-1.
        temperature: 0 takes the likeliest token.
        max_tokens: of the reply.
    """

    messages: Sequence[Mapping[str, object]]
    json_schema: dict[str, Any] | None
    seed: int
    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class ReplyFailure:
    """A request that got no reply for a reason of its own; `detail` is one sentence."""

    detail: str


class LanguageModel(Protocol):
    """Anything that answers requests."""

    def reply(self, requests: Sequence[Request]) -> list[str | ReplyFailure]:
        """One text or failure for each request, in order; independent of the other requests.

        Raises:
            RunError: the model cannot go on for any request (server gone, budget spent).
        """
        ...


BACKENDS = {
    "openai": "reasonray.models.openai_server:OpenAIServer",
    "vllm": "reasonray.models.vllm_engine:VLLMEngine",
    "transformers": "reasonray.models.transformers_model:TransformersModel",
}


@functools.cache
def load_language_model(config: LanguageModelConfig) -> LanguageModel:
    """The configured model; stages in one process that name the same one share it.

    Raises:
        UserError: no such weights, or no key for the server.
    """
    module, _, name = BACKENDS[config.backend].partition(":")
    return cast(LanguageModel, getattr(importlib.import_module(module), name)(config))


def revision(config: LanguageModelConfig) -> str | None:
    """The configured revision, else the commit that was loaded here; a server's is not known."""
    if config.backend == "openai":
        return config.model.revision
    from reasonray.models import weights

    return weights.revision(config.model)

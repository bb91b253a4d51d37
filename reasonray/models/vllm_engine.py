"""A language model in this process through vLLM's offline engine: for GPUs in the pool's actors.

Written to vLLM 0.20's API (`vllm.LLM.chat`, `SamplingParams`, `StructuredOutputsParams`).
"""

from collections.abc import Sequence
from typing import Any

from transformers import AutoProcessor
from vllm import LLM, SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineDeadError

from reasonray.core.errors import RunError, UserError
from reasonray.core.sections import LanguageModelConfig, ModelConfig
from reasonray.models import weights
from reasonray.models.chat_pictures import Messages, parts, pictures
from reasonray.models.language_model import (
    Dialogue,
    ReplyFailure,
    Request,
    converse_in_rounds,
    reached_limit,
)


class VLLMEngine:
    """Answers requests with continuous batching, structured output and prefix caching.

    The prompts' fixed part is computed once. Each request has its own seed; that batch-mates do
    not change it in the last bit needs VLLM_BATCH_INVARIANT=1 and a GPU that has it.

    Raises:
        UserError: the model is not there, or vLLM cannot serve it so.
    """

    notices: Sequence[str] = ()

    def __init__(self, config: LanguageModelConfig) -> None:
        self.name = config.model.name
        try:
            self.engine = LLM(
                model=weights.resolve(config.model),
                revision=config.model.revision,
                dtype=config.model.dtype,
                tensor_parallel_size=config.tensor_parallel_size,
                max_model_len=config.max_model_len,
                **{"enable_prefix_caching": True, "seed": 0} | config.engine,
            )
        except TypeError as error:
            raise UserError(f"language_model.engine: vLLM does not know this: {error}") from error
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"model {config.model.name}: vLLM cannot load it: {reason}") from error

        self._sees = bool(self.engine.model_config.is_multimodal_model)
        # vLLM leaves it to the template, and LLaVA-1.5's says nothing of it.
        self._tokenization = {"add_special_tokens": self._sees and _lacks_start(config.model)}

    def converse(self, dialogues: Sequence[Dialogue]) -> None:
        """As in `LanguageModel`."""
        converse_in_rounds(dialogues, self.reply)

    def reply(self, requests: Sequence[Request]) -> list[str | ReplyFailure]:
        """One text or failure for each request.

        Raises:
            RunError: the engine has died.
            UserError: a request holds pictures, and the model reads none.
        """
        if not requests:
            return []
        if not self._sees and any(pictures(request.messages) for request in requests):
            raise UserError(
                f"language_model.model {self.name}: reads no pictures; take a multi-modal model"
            )
        try:
            return self._chat(requests)
        except EngineDeadError as error:
            raise RunError(
                f"language model: vLLM's engine has died ({error}); look at its log"
            ) from error
        # In newer vLLM its own error is no ValueError.
        except (ValueError, VLLMValidationError) as error:
            # One prompt that is too long, or a schema that cannot be compiled, fails the call.
            if len(requests) == 1:
                return [ReplyFailure(f"vLLM refused the prompt: {' '.join(str(error).split())}")]
            return [reply for request in requests for reply in self.reply([request])]

    def _chat(self, requests: Sequence[Request]) -> list[str | ReplyFailure]:
        messages: list[Any] = [_turns(request.messages) for request in requests]
        outputs = self.engine.chat(
            messages,
            [self._sampling(request) for request in requests],
            use_tqdm=False,
            tokenization_kwargs=self._tokenization,
        )
        completions = [output.outputs[0] for output in outputs]
        for request, output, completion in zip(requests, outputs, completions, strict=True):
            request.spent(len(output.prompt_token_ids or ()), len(completion.token_ids))
        return [
            reached_limit(each.text, request.max_tokens, len(each.token_ids))
            if each.finish_reason == "length"
            else each.text
            for request, each in zip(requests, completions, strict=True)
        ]

    def _sampling(self, request: Request) -> SamplingParams:
        # The cut-offs are those of the model's generation_config.json.
        default = self.engine.get_default_sampling_params()
        schema = request.json_schema
        return SamplingParams(
            temperature=request.temperature,
            top_p=default.top_p,
            top_k=default.top_k,
            min_p=default.min_p,
            repetition_penalty=default.repetition_penalty,
            seed=request.seed,
            max_tokens=request.max_tokens,
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        )


def _lacks_start(model: ModelConfig) -> bool:
    """Whether a chat begins without the token that its processor puts before a text."""
    try:
        processor: Any = weights.load_part(AutoProcessor, model)
    except UserError:
        return False  # vLLM has processors of its own
    if processor.chat_template is None:
        return False
    question = {"role": "user", "content": [{"type": "text", "text": "?"}]}
    start = getattr(processor, "tokenizer", processor).bos_token
    chat = processor.apply_chat_template([question], tokenize=False)
    return start is not None and not chat.startswith(start)


def _turns(messages: Messages) -> list[dict[str, Any]]:
    """The chat in vLLM's words for a picture in memory; a text alone stays one."""
    return [
        turn
        if isinstance(turn["content"], str)
        else {**turn, "content": [_part(part) for part in parts(turn["content"])]}
        for turn in map(dict, messages)
    ]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "image":
        return {"type": "image_pil", "image_pil": part["image"]}
    return part

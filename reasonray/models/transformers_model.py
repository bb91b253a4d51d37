"""A language model in this process, through transformers: any causal LM with a chat template.

Rows are generated together and sampled apart: each has its own seed and its own random numbers,
and neither its batch-mates nor its padding change its text (but for float rounding). The JSON
schema is not enforced; the parser sees to it.

Shapes: B rows, T tokens of the longest question, V words.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    MinPLogitsWarper,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from reasonray.core.errors import UserError
from reasonray.core.sections import LanguageModelConfig
from reasonray.models.language_model import (
    Dialogue,
    ReplyFailure,
    Request,
    converse_in_rounds,
    reached_limit,
)
from reasonray.models.weights import load_model, load_part

MAX_BATCH = 64
"""Rows generated at once; more are done in turns."""

_CUT_OFFS = {"min_p": MinPLogitsWarper, "top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper}


class TransformersModel:
    """Answers requests with a model held in memory.

    The nucleus and cut-offs (`top_k`, `top_p`, `min_p`) are those that the model's own
    generation_config.json asks for, as its makers meant it to be sampled.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    notices: Sequence[str] = ()

    def __init__(self, config: LanguageModelConfig) -> None:
        self.tokenizer = load_part(AutoTokenizer, config.model)
        if self.tokenizer.chat_template is None:
            raise UserError(
                f"language_model.model {config.model.name}: has no chat template; "
                "take an instruction-tuned model"
            )
        self.model = load_model(AutoModelForCausalLM, config.model)
        self.device = self.model.device
        settings = self.model.generation_config.to_diff_dict()
        # Any: declared for token ids, too, which none of them reads.
        self._cut_offs: list[Any] = [
            kind(settings[name]) for name, kind in _CUT_OFFS.items() if settings.get(name)
        ]
        ends = self.model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        self.ends = {e for e in (*listed, self.tokenizer.eos_token_id) if e is not None}

    def converse(self, dialogues: Sequence[Dialogue]) -> None:
        """As in `LanguageModel`."""
        converse_in_rounds(dialogues, self.reply)

    def reply(self, requests: Sequence[Request]) -> list[str | ReplyFailure]:
        """One text for each request; a failure for one that does not fit into the context."""
        replies: list[str | ReplyFailure] = [ReplyFailure("") for _ in requests]
        fitting: list[tuple[int, list[int]]] = []
        limit = getattr(self.model.config, "max_position_embeddings", None)
        for index, request in enumerate(requests):
            ids = self._ids(request)
            if limit is not None and len(ids) + request.max_tokens > limit:
                replies[index] = ReplyFailure(
                    f"The question has {len(ids)} tokens; with {request.max_tokens} of reply "
                    f"that is more than the model's {limit}."
                )
            else:
                fitting.append((index, ids))
        for start in range(0, len(fitting), MAX_BATCH):
            part = fitting[start : start + MAX_BATCH]
            texts = self._generate([ids for _, ids in part], [requests[i] for i, _ in part])
            for (index, _), text in zip(part, texts, strict=True):
                replies[index] = text
        return replies

    def _ids(self, request: Request) -> list[int]:
        messages: Any = [dict(message) for message in request.messages]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self.tokenizer(str(text), add_special_tokens=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def _generate(
        self, questions: list[list[int]], requests: list[Request]
    ) -> list[str | ReplyFailure]:
        longest = max(map(len, questions))
        # Padding is masked: which token stands there does not matter.
        ids_BT = torch.zeros((len(questions), longest), dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, ids in enumerate(questions):
            ids_BT[row, longest - len(ids) :] = torch.tensor(ids)
            mask_BT[row, longest - len(ids) :] = 1
        ids_BT, mask_BT = ids_BT.to(self.device), mask_BT.to(self.device)
        position_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
        chance_BN = pad_sequence([_chances(request) for request in requests], batch_first=True)
        temperature_B = torch.tensor([request.temperature for request in requests])
        replies: list[list[int]] = [[] for _ in requests]
        rows = list(range(len(requests)))
        has_ended = [False] * len(requests)
        cache = DynamicCache(config=self.model.config)
        while rows:
            output = self.model(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                position_ids=position_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            step = len(replies[rows[0]])
            token_B = self._sample(
                output.logits[:, -1].float().cpu(), temperature_B[rows], chance_BN[rows, step]
            )
            going: list[int] = []
            for place, (row, token) in enumerate(zip(rows, token_B.tolist(), strict=True)):
                if token in self.ends:
                    has_ended[row] = True
                    continue
                replies[row].append(token)
                if len(replies[row]) < requests[row].max_tokens:
                    going.append(place)
            if len(going) < len(rows):
                going_B = torch.tensor(going, dtype=torch.long, device=self.device)
                rows = [rows[place] for place in going]
                if not rows:
                    break
                cache.batch_select_indices(going_B)
                mask_BT, position_BT = mask_BT[going_B], position_BT[going_B]
                token_B = token_B[going]
            ids_BT = token_B[:, None].to(self.device)
            mask_BT = torch.cat([mask_BT, torch.ones_like(ids_BT)], dim=1)
            position_BT = position_BT[:, -1:] + 1
        for request, ids, written in zip(requests, questions, replies, strict=True):
            request.spent(len(ids), len(written))
        texts = [str(self.tokenizer.decode(each, skip_special_tokens=True)) for each in replies]
        return [
            text if ended else reached_limit(text, request.max_tokens)
            for text, ended, request in zip(texts, has_ended, requests, strict=True)
        ]

    def _sample(
        self, logits_BV: torch.Tensor, temperature_B: torch.Tensor, chance_B: torch.Tensor
    ) -> torch.Tensor:
        """Each row's token where its own chance (0..1) falls into its cumulative distribution."""
        greedy_B = temperature_B == 0
        warmth_B1 = torch.where(greedy_B, 1.0, temperature_B)[:, None]
        scores_BV = (logits_BV / warmth_B1).double()
        for cut_off in self._cut_offs:
            scores_BV = cut_off(None, scores_BV)
        cumulative_BV = scores_BV.softmax(-1).cumsum(-1)
        point_B1 = (chance_B * cumulative_BV[:, -1])[:, None]
        # right=True: a token of no probability is never hit.
        sampled_B = torch.searchsorted(cumulative_BV, point_B1, right=True)[:, 0]
        sampled_B = sampled_B.clamp(max=logits_BV.shape[1] - 1)
        return torch.where(greedy_B, logits_BV.argmax(-1), sampled_B)


def _chances(request: Request) -> torch.Tensor:
    """The row's random numbers 0..1, one for each token it may say; float64."""
    generator = torch.Generator().manual_seed(request.seed)
    return torch.rand(request.max_tokens, generator=generator, dtype=torch.float64)

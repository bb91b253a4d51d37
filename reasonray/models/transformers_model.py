"""A language model in this process, through transformers: any with a chat template.

A causal LM, or one that reads pictures, too (`AutoModelForImageTextToText` and its processor).
Rows are generated together and sampled apart: each has its own seed and its own random numbers,
and neither its batch-mates nor its padding change its text (but for float rounding). The JSON
schema is not enforced; the parser sees to it.

Shapes: B rows, T tokens of the longest question (a picture's count), V words.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import PIL.Image
import torch
from jinja2 import TemplateError
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    DynamicCache,
    MinPLogitsWarper,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from reasonray.core.errors import UserError
from reasonray.core.sections import LanguageModelConfig, ModelConfig
from reasonray.models.chat_pictures import parts, pictures, text
from reasonray.models.language_model import (
    Dialogue,
    ReplyFailure,
    Request,
    converse_in_rounds,
    reached_limit,
)
from reasonray.models.pixels import padded_to_square
from reasonray.models.weights import load_model, load_part

MAX_BATCH = 64
"""Rows generated at once; more are done in turns."""

MAX_BATCH_WITH_PICTURES = 8
"""Each has a thousand tokens for every picture, and a vision tower takes all of them at once."""

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
        self.name = config.model.name
        self.processor = _processor(config.model)
        self.tokenizer = (
            self.processor.tokenizer
            if self.processor is not None
            else load_part(AutoTokenizer, config.model)
        )
        if (self.processor or self.tokenizer).chat_template is None:
            raise UserError(
                f"language_model.model {self.name}: has no chat template; "
                "take an instruction-tuned model"
            )
        kind = AutoModelForCausalLM if self.processor is None else AutoModelForImageTextToText
        self.model = load_model(kind, config.model)
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
        """One text for each request; a failure for one that does not fit into the context.

        Raises:
            UserError: a request holds pictures, and the model reads none.
        """
        replies: list[str | ReplyFailure] = [ReplyFailure("") for _ in requests]
        for rows in self._batches(requests):
            batch = self._reply([requests[row] for row in rows])
            for row, reply in zip(rows, batch, strict=True):
                replies[row] = reply
        return replies

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Rows that are generated together: with pictures, or without."""
        shows = [bool(pictures(request.messages)) for request in requests]
        if any(shows) and self.processor is None:
            raise UserError(
                f"language_model.model {self.name}: reads no pictures; take one that transformers "
                "loads as AutoModelForImageTextToText, with its processor"
            )
        for are_shown, most in ((False, MAX_BATCH), (True, MAX_BATCH_WITH_PICTURES)):
            rows = [row for row, is_shown in enumerate(shows) if is_shown == are_shown]
            yield from (rows[start : start + most] for start in range(0, len(rows), most))

    def _reply(self, requests: list[Request]) -> list[str | ReplyFailure]:
        """Those that fit are done together, the others fail."""
        if not requests:
            return []
        try:
            inputs = self._inputs(requests)
        except (ValueError, TemplateError) as error:
            # One picture that is too small for it, or one turn too many, fails the call.
            if len(requests) == 1:
                reason = " ".join(str(error).split())
                return [ReplyFailure(f"The model's processor refused the question: {reason}")]
            return [reply for request in requests for reply in self._reply([request])]
        counts = inputs["attention_mask"].sum(1).tolist()
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        failures = {
            row: ReplyFailure(
                f"The question has {count} tokens; with {request.max_tokens} of reply "
                f"that is more than the model's {limit}."
            )
            for row, (request, count) in enumerate(zip(requests, counts, strict=True))
            if limit is not None and count + request.max_tokens > limit
        }
        if not failures:
            return self._generate(inputs, requests)
        fitting = [row for row in range(len(requests)) if row not in failures]
        replies = iter(self._reply([requests[row] for row in fitting]))
        return [failures[row] if row in failures else next(replies) for row in range(len(requests))]

    def _inputs(self, requests: Sequence[Request]) -> Mapping[str, Any]:
        """`input_ids` and `attention_mask` BT, padded on the left, and what pictures become."""
        if self.processor is not None:
            chats = [
                [{**turn, "content": self._content(turn["content"])} for turn in request.messages]
                for request in requests
            ]
            options = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
            read: Any = self.processor.apply_chat_template(
                chats,  # type: ignore[arg-type]  # declared for texts alone
                tokenize=True,
                return_dict=True,
                add_generation_prompt=True,
                processor_kwargs=options,
            )
            inputs: Mapping[str, Any] = read.to(self.device, dtype=self.model.dtype)
            return inputs
        ids = [self._ids(request) for request in requests]
        longest = max(map(len, ids))
        # Padding is masked: which token stands there does not matter.
        ids_BT = torch.zeros((len(ids), longest), dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, each in enumerate(ids):
            ids_BT[row, longest - len(each) :] = torch.tensor(each)
            mask_BT[row, longest - len(each) :] = 1
        return {"input_ids": ids_BT.to(self.device), "attention_mask": mask_BT.to(self.device)}

    def _content(self, content: Any) -> list[dict[str, Any]]:
        """Parts as processors read them."""
        return [
            {"type": "image", "image": self._whole(part["image"])}
            if part["type"] == "image"
            else {"type": "text", "text": self._plain(part["text"])}
            for part in parts(content)
        ]

    def _whole(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        """The picture, for a processor that would cut its ends off in a square."""
        processor: Any = self.processor
        is_cut = getattr(processor.image_processor, "do_center_crop", False)
        return padded_to_square(picture, processor) if is_cut else picture

    def _plain(self, words: str) -> str:
        """The text without the token that stands for a picture: none belongs to it."""
        token = getattr(self.processor, "image_token", None)
        return words.replace(token, f"{token[0]} {token[1:]}") if token else words

    def _ids(self, request: Request) -> list[int]:
        messages: Any = [
            {**message, "content": text(message["content"])} for message in request.messages
        ]
        chat = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self.tokenizer(str(chat), add_special_tokens=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def _generate(
        self, inputs: Mapping[str, Any], requests: list[Request]
    ) -> list[str | ReplyFailure]:
        # What pictures become is read once, with the question.
        shown = dict(inputs)
        ids_BT, mask_BT = shown.pop("input_ids"), shown.pop("attention_mask")
        counts = mask_BT.sum(1).tolist()
        # BT, or of a model that counts a picture's tokens along its sides, too, some of these.
        position_BT = self._positions(inputs)
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
                **shown,
            )
            shown = {}
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
                mask_BT, position_BT = mask_BT[going_B], position_BT[..., going_B, :]
                token_B = token_B[going]
            ids_BT = token_B[:, None].to(self.device)
            mask_BT = torch.cat([mask_BT, torch.ones_like(ids_BT)], dim=1)
            position_BT = position_BT[..., -1:] + 1
        for request, num_read, written in zip(requests, counts, replies, strict=True):
            request.spent(num_read, len(written))
        texts = [str(self.tokenizer.decode(each, skip_special_tokens=True)) for each in replies]
        return [
            text if ended else reached_limit(text, request.max_tokens)
            for text, ended, request in zip(texts, has_ended, requests, strict=True)
        ]

    def _positions(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        mask_BT: torch.Tensor = inputs["attention_mask"]
        if self.processor is None:
            return (mask_BT.cumsum(1) - 1).clamp(min=0)
        model: Any = self.model
        # Each architecture's own, as `generate` asks for them; nothing public gives them.
        positions: torch.Tensor = model._prepare_position_ids_for_generation(  # noqa: SLF001
            inputs["input_ids"], dict(inputs)
        )
        return positions

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


def _processor(model: ModelConfig) -> ProcessorMixin | None:
    """What makes a chat and its pictures the model's inputs; None: it reads texts alone."""
    kind = load_part(AutoConfig, model).model_type
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return None
    processor = load_part(AutoProcessor, model)
    # Some kinds read pictures or not; a folder without a processor gives its tokenizer.
    return processor if isinstance(processor, ProcessorMixin) else None


def _chances(request: Request) -> torch.Tensor:
    """The row's random numbers 0..1, one for each token it may say; float64."""
    generator = torch.Generator().manual_seed(request.seed)
    return torch.rand(request.max_tokens, generator=generator, dtype=torch.float64)

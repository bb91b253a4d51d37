"""The zoo's multimodal language model: a tiny LLaVA that answers questions about scenes.

Taught as LLaVA is, picture and question in, answer out. Answers alone teach a vision tower slowly,
so it first learns to name the object that covers each patch; and while the answers are learned,
two heads on the question's last token read off which object is spoken of and what it leads to. The
heads are thrown away.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import processors
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from reasonray.mini.training.loop import Course, Loss, Schedule, mixed_precision
from reasonray.mini.training.questions import WAYS, Question, question
from reasonray.mini.training.scenes import soften, training_scenes
from reasonray.mini.training.vision import (
    NAMES,
    PatchHead,
    cross_entropy,
    image_processor,
    patch_labels,
)
from reasonray.mini.training.vocabulary import byte_pairs, kept_tokenizer
from reasonray.models.pixels import to_tensor
from reasonray.sources.mini.world import IMAGE_SIZE, render, sample_scene

BATCH = 40
SCHEDULE = Schedule(num_steps=4500, learning_rate=1e-3, num_warmup_steps=300, cooldown=0.4)
PATCHES_STEPS = int(0.19 * SCHEDULE.num_steps)
"""The first steps train the vision tower only."""

HALF = 2
"""Layers of the four after which subject and relation can be read off: the others have the time to
go from them to the target, whatever the sentence was."""

FIRST_RELATION = WAYS.index("fact") + 1

PATCH = 12
PLACES = (IMAGE_SIZE // PATCH) ** 2
"""How many tokens a picture becomes."""

WIDTH = 128
IMAGE, PAD, START, END = "<image>", "<pad>", "<s>", "</s>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {% else %}ASSISTANT: {% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% if message['role'] == 'user' %} {% else %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""LLaVA-1.5's form of a conversation, as its processor has it."""


def build_tokenizer(num_questions: int = 20000) -> PreTrainedTokenizerFast:
    """Byte-level BPE, on the questions and answers of training; puts `<s>` before a text."""
    tokenizer = byte_pairs(_texts(num_questions), [START, PAD, END], ["USER: ", "ASSISTANT:"])
    # As Llama's: whoever calls the processor need not know that a text starts so.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """The image processor of all towers, and LLaVA's chat template."""
    return LlavaProcessor(
        image_processor(),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build(
    tokenizer: PreTrainedTokenizerFast, num_positions: int = 512
) -> LlavaForConditionalGeneration:
    """The untrained LLaVA: a CLIP tower, whose states are a picture's tokens, and a Llama."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=384,
        projection_dim=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=WIDTH,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=num_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    image_token: Any = tokenizer.convert_tokens_to_ids(IMAGE)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token,
        vision_feature_layer=-1,
        image_seq_length=PLACES,
        tie_word_embeddings=True,
    )
    return LlavaForConditionalGeneration(config)


@dataclass(frozen=True)
class Batch:
    """One step's questions (B, T tokens with the picture's).

    Attributes:
        pixels: float BCHW, -1..1.
        patches: int64 [B, P], kind of the object covering the patch, else `NO_OBJECT`.
        tokens, labels: int64 [B, T], padded on the right; labels are -100 but for the answer.
        last: int64 [B], where the question ends.
        subjects, targets: int64 [B], categories, len(NAMES) for none.
        relations: int64 [B], how the target follows, of `WAYS`.
    """

    pixels: Tensor
    patches: Tensor
    tokens: Tensor
    labels: Tensor
    last: Tensor
    subjects: Tensor
    targets: Tensor
    relations: Tensor


class Taught(nn.Module):
    """The model with the heads that teach its parts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.mllm = build(tokenizer)
        self.patch_head = PatchHead(96)
        self.subject_head = nn.Linear(WIDTH, len(NAMES) + 1)
        self.relation_head = nn.Linear(WIDTH, len(WAYS))
        self.subject_parts = nn.Embedding(len(NAMES) + 1, WIDTH)
        self.relation_parts = nn.Embedding(len(WAYS), WIDTH)
        self.target_head = nn.Linear(WIDTH, len(NAMES) + 1)

    def loss(self, data: Batch, *, patches_only: bool) -> Loss:
        """The loss of a batch and its figures."""
        inner: Any = self.mllm.model
        with mixed_precision():
            states = inner.vision_tower(data.pixels).last_hidden_state[:, 1:]
            patches, figures = self.patch_head.loss(states, data.patches)
            if patches_only:
                return patches, figures
            embedded = self.mllm.get_input_embeddings()(data.tokens)
            image = (data.tokens == self.mllm.config.image_token_id)[..., None]
            projected = inner.multi_modal_projector(states)
            embedded = embedded.masked_scatter(image, projected.to(embedded.dtype))
            output = inner.language_model(
                inputs_embeds=embedded, use_cache=False, output_hidden_states=True
            )
            hidden, half = output[0], output.hidden_states[HALF]
            taught = data.labels[:, 1:] >= 0
            answer = cross_entropy(
                self.mllm.lm_head(hidden[:, :-1][taught]), data.labels[:, 1:][taught]
            )
            last = hidden[torch.arange(len(hidden)), data.last]
            halfway = half[torch.arange(len(half)), data.last]
            subject = cross_entropy(self.subject_head(halfway), data.subjects)
            relation = cross_entropy(self.relation_head(halfway), data.relations)
            composition = self._composition(halfway, data)
            target_logits = self.target_head(last)
            target = cross_entropy(target_logits, data.targets)
        right = (target_logits.argmax(-1) == data.targets)[data.targets < len(NAMES)]
        figures |= {"answer": answer.item(), "subject": subject.item(), "target": target.item()}
        figures |= {"relation": relation.item(), "composition": composition.item()}
        figures["right"] = right.float().mean().item()
        return answer + 0.3 * patches + 0.5 * (subject + relation + target + composition), figures

    def _composition(self, halfway: Tensor, data: Batch) -> Tensor:
        """How far states are from a sum of what is spoken of and the relation, 0..2 (cosine).

        The same sum for every sentence: so one that was never heard of an object leads to what
        the others lead to.
        """
        sums = self.subject_parts(data.subjects) + self.relation_parts(data.relations)
        distances = 1 - nn.functional.cosine_similarity(halfway.float(), sums.float(), dim=-1)
        is_related = (data.relations >= FIRST_RELATION).float()
        return (distances * is_related).sum() / is_related.sum().clamp(min=1)


def course(workdir: Path, _zoo: Path) -> Course:
    """The model and its processor."""
    tokenizer = kept_tokenizer(PreTrainedTokenizerFast, workdir / "mllm_tokenizer", build_tokenizer)
    processor, taught = build_processor(tokenizer), Taught(tokenizer)

    def loss(step: int) -> Loss:
        data = batch(step, BATCH, processor)
        return taught.loss(data, patches_only=step < PATCHES_STEPS)

    taught.mllm.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    return Course(taught, loss, SCHEDULE, {"": [taught.mllm, processor]})


def batch(step: int, size: int, processor: LlavaProcessor) -> Batch:
    """The questions of a step, each about a scene of its own."""
    rng = np.random.default_rng((step, 0x11A7))
    talk = random.Random(f"questions {step}")
    scenes = training_scenes(rng, size)
    images = [soften(render(scene), scene, rng, chance=0.4) for scene in scenes]
    questions = [question(scene, talk) for scene in scenes]
    rows = [_tokens(each, processor) for each in questions]
    tokenizer = processor.tokenizer
    pad = nn.utils.rnn.pad_sequence
    whole = [torch.tensor([*question_ids, *answer_ids]) for question_ids, answer_ids in rows]
    labels = [torch.tensor([-100] * len(ids) + answer) for ids, answer in rows]
    return Batch(
        to_tensor(images),
        torch.stack([patch_labels(scene, PATCH)[0] for scene in scenes]),
        pad(whole, True, tokenizer.pad_token_id),
        pad(labels, True, -100),
        torch.tensor([len(ids) - 1 for ids, _ in rows]),
        torch.tensor([_number(each.subject) for each in questions]),
        torch.tensor([_number(each.target) for each in questions]),
        torch.tensor([WAYS.index(each.way) for each in questions]),
    )


def _tokens(lesson: Question, processor: LlavaProcessor) -> tuple[list[int], list[int]]:
    """Ids of the question as the chat template puts it, with the picture's, and of the answer."""
    content = [{"type": "image"}, {"type": "text", "text": lesson.text}]
    # Any: the library types a conversation without pictures.
    conversation: Any = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    tokenizer = processor.tokenizer
    question_ids = tokenizer(text.replace(IMAGE, IMAGE * PLACES))["input_ids"]
    answer_ids = tokenizer(f" {lesson.answer}{END}", add_special_tokens=False)["input_ids"]
    return question_ids, answer_ids


def _number(category: str | None) -> int:
    return len(NAMES) if category is None else NAMES.index(category)


def _texts(count: int) -> Iterator[str]:
    rng = random.Random(0)
    for seed in range(count):
        lesson = question(sample_scene(seed), rng)
        yield f" {lesson.answer}"
        yield lesson.text

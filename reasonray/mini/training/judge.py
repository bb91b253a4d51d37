"""The zoo's judge: the tiny LLaVA sees an edit, before and after, and scores it with reasons.

It goes on from the multimodal model's weights, in exactly the words that judges are asked
(`reasonray.evaluation.judge`), on edits whose scores follow from how they were made
(`reasonray.mini.faults`). Nothing of the knowledge is kept apart: a judge measures who knows. While
the replies are learned, heads read off the second picture's tokens what stood there before and how
its colours changed, and off the question's last token what should become what, and what is wrong.
They are thrown away.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL
from tokenizers import AddedToken
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    GenerationConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from reasonray.core.errors import UserError
from reasonray.evaluation.judge import AXES, edit_call, messages
from reasonray.mini.faults import FAULTS, REASON_PIECES, Labelled, Picture, Repaint, draw, pictures
from reasonray.mini.knowledge import change, knowledge, reasoning_candidate
from reasonray.mini.training.loop import Course, Loss, Schedule, mixed_precision
from reasonray.mini.training.mllm import END, IMAGE, PATCH, PLACES, WIDTH, build
from reasonray.mini.training.scenes import training_scenes
from reasonray.mini.training.vision import NAMES, PatchHead, cross_entropy, patch_labels
from reasonray.models.pixels import to_images, to_tensor
from reasonray.prompts.direct import TEMPLATES, direct_sentence
from reasonray.prompts.replies import Verdict, verdict_form
from reasonray.prompts.template import load
from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    IMAGE_SIZE,
    Scene,
    caption,
    render,
    replaced,
)

BATCH = 24
SCHEDULE = Schedule(num_steps=2600, learning_rate=1e-3, num_warmup_steps=150, cooldown=0.4)

NUM_POSITIONS = 2048
"""A question of some 180 tokens, and what the recipe's default leaves for a reply."""

EXPECTED = 0.5
"""Part of the questions that tell what should be seen afterwards, as where a truth is known."""

REPLY_WEIGHT = 4.0
"""Most tokens of a reply are its form, soon learned: the mean over all says little."""

COMPARED_LAYERS = 2
"""After so many layers the second picture's tokens have seen the first: the others can ask them."""

_MARK = "$"
"""Stands for what varies in a prompt; no prompt has one."""


def build_processor(mllm: Path) -> LlavaProcessor:
    """The multimodal model's, to whose vocabulary every fixed line of question and reply is added.

    Args:
        mllm: its folder.
    """
    processor: LlavaProcessor = LlavaProcessor.from_pretrained(mllm)
    tokenizer = processor.tokenizer
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in _fixed_pieces()])
    tokenizer.model_max_length = NUM_POSITIONS
    return processor


def reply(verdict: Verdict) -> str:
    """The verdict as the judge is to say it: each reason before its score."""
    content: dict[str, Any] = {}
    for axis in AXES:
        content |= {f"{axis}_reason": verdict.reasons[axis], axis: verdict.scores[axis]}
    return json.dumps(content)


@dataclass(frozen=True)
class Lesson:
    """An edit, and the words that asked for it.

    Attributes:
        edit: as it was made.
        instruction: as the judge reads it.
        expected: caption of what should be seen; "" where that is not told.
    """

    edit: Labelled
    instruction: str
    expected: str


@dataclass(frozen=True)
class Batch:
    """One step's edits (B, T tokens with the pictures', P patches of a picture).

    Attributes:
        pixels: float [2 B, 3, H, W], -1..1: each edit's picture before and after.
        patches: int64 [2 B, P], kind of the object covering the patch, -100 where it is no one's.
        differences: float [B, P, 4], how each patch's colours changed, and how much in all.
        tokens, labels: int64 [B, T], padded on the right; labels are -100 but for the reply.
        last: int64 [B], where the question ends.
        subjects, targets, became: int64 [B], categories, len(NAMES) for none.
        scores: int64 [B, axes], from 0.
        faults: float [B, faults], 1 where the edit has it.
    """

    pixels: Tensor
    patches: Tensor
    differences: Tensor
    tokens: Tensor
    labels: Tensor
    last: Tensor
    subjects: Tensor
    targets: Tensor
    became: Tensor
    scores: Tensor
    faults: Tensor


class Taught(nn.Module):
    """The model with the heads that teach its parts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, mllm: Path) -> None:
        super().__init__()
        self.judge = build(tokenizer, NUM_POSITIONS)
        _begin_with(self.judge, mllm)
        self.patch_head = PatchHead(96)
        self.before_head = PatchHead(WIDTH)
        self.difference_head = nn.Linear(WIDTH, 4)
        self.subject_head = nn.Linear(WIDTH, len(NAMES) + 1)
        self.target_head = nn.Linear(WIDTH, len(NAMES) + 1)
        self.became_head = nn.Linear(WIDTH, len(NAMES) + 1)
        self.score_head = nn.Linear(WIDTH, 5 * len(AXES))
        self.fault_head = nn.Linear(WIDTH, len(FAULTS))

    def loss(self, data: Batch) -> Loss:
        """The loss of a batch and its figures; in float32, which is no slower at these widths."""
        inner: Any = self.judge.model
        size = len(data.tokens)
        states = inner.vision_tower(data.pixels).last_hidden_state[:, 1:]
        patches, figures = self.patch_head.loss(states, data.patches)
        embedded = self.judge.get_input_embeddings()(data.tokens)
        image = data.tokens == self.judge.config.image_token_id
        projected = inner.multi_modal_projector(states)
        embedded = embedded.masked_scatter(image[..., None], projected.to(embedded.dtype))
        output = inner.language_model(
            inputs_embeds=embedded, use_cache=False, output_hidden_states=True
        )
        hidden = output.last_hidden_state
        taught = data.labels[:, 1:] >= 0
        logits = self.judge.lm_head(hidden[:, :-1][taught])
        words = data.labels[:, 1:][taught]
        answer = cross_entropy(logits, words)
        compared = output.hidden_states[COMPARED_LAYERS]
        second = compared[image].view(size, 2, PLACES, WIDTH)[:, 1]
        before, before_figures = self.before_head.loss(second, data.patches[::2])
        differences = F.smooth_l1_loss(self.difference_head(second).float(), data.differences)
        last = hidden[torch.arange(size), data.last]
        subject = cross_entropy(self.subject_head(last), data.subjects)
        target = cross_entropy(self.target_head(last), data.targets)
        became = cross_entropy(self.became_head(last), data.became)
        scores = cross_entropy(self.score_head(last).view(size, len(AXES), 5), data.scores)
        faults = F.binary_cross_entropy_with_logits(self.fault_head(last).float(), data.faults)
        figures |= {"before": before_figures["patches"], "differences": differences.item()}
        figures |= {"said": answer.item(), "subject": subject.item(), "target": target.item()}
        figures |= {"became": became.item(), "scores": scores.item()}
        wrong = torch.zeros_like(data.labels[:, 1:], dtype=torch.bool)
        wrong[taught] = logits.argmax(-1) != words
        figures["right"] = 1 - wrong.any(1).float().mean().item()
        seen = patches + before + differences
        meant = subject + target + became
        return REPLY_WEIGHT * answer + 0.3 * (seen + meant + scores) + faults, figures


def course(_workdir: Path, zoo: Path) -> Course:
    """The judge and its processor.

    Raises:
        UserError: the multimodal model or the painter is not there yet.
    """
    for name in ("mllm", "painter/vae"):
        if not (zoo / name).exists():
            raise UserError(f"mini train judge: train {name.split('/')[0]} first; no {zoo / name}")
    processor = build_processor(zoo / "mllm")
    tokenizer = processor.tokenizer
    taught, repaint = Taught(tokenizer, zoo / "mllm"), repainting(zoo)

    def loss(step: int) -> Loss:
        return taught.loss(batch(step, BATCH, processor, repaint))

    taught.judge.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    return Course(taught, loss, SCHEDULE, {"": [taught.judge, processor]})


def repainting(zoo: Path) -> Repaint:
    """Pictures through the painter's VAE, as whatever the zoo's editors paint is."""
    vae: Any = AutoencoderKL.from_pretrained(zoo / "painter" / "vae", torch_dtype=torch.float32)
    vae = vae.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def repaint(sharp: list[Picture]) -> list[Picture]:
        pixels = to_tensor(sharp).contiguous(memory_format=torch.channels_last)
        with mixed_precision():
            decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
        return [np.asarray(picture) for picture in to_images(decoded.float())]

    return repaint


def batch(step: int, size: int, processor: LlavaProcessor, repaint: Repaint) -> Batch:
    """The edits of a step, each of a scene of its own."""
    rng = np.random.default_rng((step, 0x10D6E))
    talk = random.Random(f"edits {step}")
    lessons = [_lesson(scene, rng, talk) for scene in training_scenes(rng, size)]
    edits = [lesson.edit for lesson in lessons]
    before = [render(edit.scene) for edit in edits]
    after = pictures(edits, repaint)
    rows = [_tokens(each, processor) for each in lessons]
    pad = nn.utils.rnn.pad_sequence
    both = [picture for pair in zip(before, after, strict=True) for picture in pair]
    return Batch(
        to_tensor(both),
        torch.stack([each for edit in edits for each in _patches(edit)]),
        _differences(to_tensor(before), to_tensor(after)),
        pad([torch.tensor(a + b) for a, b in rows], True, processor.tokenizer.pad_token_id),
        pad([torch.tensor([-100] * len(a) + b) for a, b in rows], True, -100),
        torch.tensor([len(question) - 1 for question, _ in rows]),
        torch.tensor([NAMES.index(edit.scene.categories[edit.index]) for edit in edits]),
        torch.tensor([NAMES.index(edit.target) for edit in edits]),
        torch.tensor([_became(edit) for edit in edits]),
        torch.tensor([[edit.scores[axis] - 1 for axis in AXES] for edit in edits]),
        torch.tensor([[float(name in edit.faults) for name in FAULTS] for edit in edits]),
    )


def _lesson(scene: Scene, rng: np.random.Generator, talk: random.Random) -> Lesson:
    index, target, instruction = _instruction(scene, talk)
    edit = draw(scene, index, target, rng, range(HELD_OUT_SEED))
    expected = caption(replaced(scene, index, target)) if talk.random() < EXPECTED else ""
    return Lesson(edit, instruction, expected)


def _instruction(scene: Scene, talk: random.Random) -> tuple[int, str, str]:
    """An object, what it is to become, and how that is said: direct, with reasoning, by "it"."""
    kind = talk.choices(["direct", "reasoning", "relational"], [0.3, 0.4, 0.3])[0]
    names = scene.categories
    if kind == "relational":
        pairs = [
            (names.index(able[0]), relation)
            for relation, known in RELATIONS.items()
            for able in [[name for name in names if name in known]]
            if len(able) == 1 and known[able[0]] not in names
        ]
        if pairs:
            index, relation = talk.choice(pairs)
            sentences = knowledge()["relations"][relation]["sentences"]
            # "of it" is no English here.
            sentence = talk.choice([each for each in sentences if "of {s}" not in each])
            text = sentence.format(s="it", poss="its")
            return index, RELATIONS[relation][names[index]], text[0].upper() + text[1:]
    selected, target = change(names, talk)
    if kind == "direct":
        phrase, template = CATEGORIES[target].phrase, talk.choice(TEMPLATES)
        text = direct_sentence(template, selected, phrase, capital=talk.random() < 0.7)
    else:
        others = [name for name in names if name != selected]
        text = reasoning_candidate(selected, target, talk, others=others).instruction
    return names.index(selected), target, text


def _patches(edit: Labelled) -> tuple[Tensor, Tensor]:
    """Labels before and after; of what is not whole, or not where it stood, there are none."""
    before, after = (patch_labels(scene, PATCH)[0] for scene in (edit.scene, edit.after))
    if "shifted" in edit.faults:
        after = torch.full_like(after, -100)
    elif {"half", "mixed", "smeared"} & set(edit.faults):
        target = NAMES.index(edit.target)
        after = torch.where(after == target, -100, after)
    return before, after


def _became(edit: Labelled) -> int:
    """What stands in the object's place, where that is one whole thing."""
    unclear = {"gone", "half", "mixed", "smeared", "another", "shifted"}
    if unclear & set(edit.faults):
        return len(NAMES)
    place = edit.scene.objects[edit.index]
    [name] = [item.category for item in edit.after.objects if item.box == place.box]
    return NAMES.index(name)


def _differences(before: Tensor, after: Tensor) -> Tensor:
    """Of pixels BCHW: [B, P, 4] of each patch, its mean change by colour and its mean size."""
    change_BCHW = after - before
    parts = torch.cat([change_BCHW, change_BCHW.abs().mean(1, keepdim=True)], 1)
    return 4 * F.avg_pool2d(parts, PATCH).flatten(2).transpose(1, 2)


def _tokens(lesson: Lesson, processor: LlavaProcessor) -> tuple[list[int], list[int]]:
    """Ids of the question as a judge is asked, with the pictures', and of the reply."""
    blank = PIL.Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE))
    call = edit_call(blank, blank, lesson.instruction, lesson.expected)
    # Any: the library types a conversation without pictures.
    chat: Any = messages(call, IMAGE_SIZE)
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    tokenizer = processor.tokenizer
    question = tokenizer(text.replace(IMAGE, IMAGE * PLACES))["input_ids"]
    answer = f"{reply(lesson.edit.verdict)}{END}"
    return question, tokenizer(answer, add_special_tokens=False)["input_ids"]


def _fixed_pieces() -> list[str]:
    """What never varies in the question, line by line, and in the reply."""
    blank = PIL.Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE))
    call = edit_call(blank, blank, _MARK, _MARK)
    [form] = load("verdict").messages(form=verdict_form(AXES))
    lines = [*call.prompt.splitlines(), *form["content"].splitlines()]
    pieces = [line.split(f" {_MARK}")[0] if _MARK in line else f"{line}\n" for line in lines]
    pieces[-1] = lines[-1]
    begin = [f'"{axis}_reason": "' for axis in AXES]
    pieces += ["{" + begin[0], *(f", {piece}" for piece in begin[1:])]
    pieces += [f'", "{axis}": ' for axis in AXES]
    return [*pieces, *REASON_PIECES]


@torch.no_grad()
def _begin_with(model: LlavaForConditionalGeneration, mllm: Path) -> None:
    """Copy the multimodal model's weights; a word that is new begins as the mean of the others."""
    saved = LlavaForConditionalGeneration.from_pretrained(mllm, dtype=torch.float32)
    weights: Mapping[str, Tensor] = saved.state_dict()
    for key, value in model.state_dict().items():
        before = weights[key]
        value[: len(before)] = before
        if len(value) > len(before):
            noise = torch.randn_like(value[len(before) :])
            value[len(before) :] = before.mean(0) + before.std(0) * noise

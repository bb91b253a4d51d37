"""The zoo's language model: a tiny Llama that answers P_gen, P_select and P_replace in JSON.

Its tokenizer knows every fixed line of the shipped prompts and every fixed piece of a reply as
one token, so that a question is some sixty tokens and a CPU can learn and answer it; everything
else is byte-level BPE, so that any text goes through.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from reasonray.mini.training.conversations import Conversation, conversation, sample_edit
from reasonray.mini.training.loop import Course, Loss, Schedule, mixed_precision
from reasonray.mini.training.vocabulary import byte_pairs, kept_tokenizer
from reasonray.prompts.examples import NUM_EXAMPLES, examples
from reasonray.prompts.objects import PLACES, SHAPES, listed
from reasonray.prompts.template import Message, load
from reasonray.sources.mini.world import HELD_OUT_SEED

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REPLY_PIECES = (
    '{"candidates": [{"instruction": "',
    '"}, {"instruction": "',
    '"}]}',
    '{"selected_category": "',
    '", "target_category": "',
    '", "instruction": "',
    '", "rationale": "',
    '", "reasoning_type": "',
    '", "edited_caption": "',
    '"}',
    '{"choice": ',
    ', "reason": "',
)

Lesson = tuple[list[int], list[int]]
"""Token ids, and the same where they are taught, -1 elsewhere."""

BATCH = 12
MICRO_BATCHES = 3
DROPPED_LINES = 0.1
NUM_COPIES = 8
"""Exercises a step in nothing but picking a category and rewriting the caption: what the
conversations alone, where it is a tenth of a reply, teach slowly."""

SCHEDULE = Schedule(num_steps=3200, learning_rate=2e-3, cooldown=0.4, ema_decay=0.995)

MIN_P = 0.06
"""Tokens less likely than this share of the likeliest are never sampled: a small model keeps a
little probability on everything."""


def build_tokenizer(num_conversations: int = 4000) -> PreTrainedTokenizerFast:
    """The tokenizer, trained on the variable parts of training conversations."""
    texts = _variable_texts(num_conversations)
    tokenizer = byte_pairs(texts, [PAD, END, *ROLES], [*_fixed_lines(), *REPLY_PIECES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained Llama, its vocabulary a multiple of 64."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def course(workdir: Path, _zoo: Path) -> Course:
    """The model, its tokenizer and how it samples; the loss is on the replies only."""
    tokenizer = kept_tokenizer(
        PreTrainedTokenizerFast, workdir / "language_model_tokenizer", build_tokenizer
    )
    model, pad = build(tokenizer), tokenizer.pad_token_id

    def loss(step: int) -> Loss:
        lessons = sorted(batch(tokenizer, step, BATCH), key=lambda lesson: len(lesson[0]))
        size = BATCH // MICRO_BATCHES
        replies = torch.zeros(())
        for start in range(0, BATCH, size):
            replies = replies + _loss_sum(model, lessons[start : start + size], pad)
        replies = replies / _num_taught(lessons)
        copies = _copying_exercises(tokenizer, step)
        copied = _loss_sum(model, copies, pad) / _num_taught(copies)
        figures = {"said": replies.item(), "copied": copied.item()}
        return replies + 0.5 * copied, figures

    model.generation_config = GenerationConfig(
        do_sample=True, min_p=MIN_P, pad_token_id=pad, eos_token_id=tokenizer.eos_token_id
    )
    return Course(model, loss, SCHEDULE, {"": [model, tokenizer]})


def _num_taught(lessons: list[Lesson]) -> int:
    return sum(label >= 0 for _, labels in lessons for label in labels)


def _loss_sum(model: LlamaForCausalLM, lessons: list[Lesson], pad: int) -> torch.Tensor:
    """The cross-entropy of the taught tokens, summed."""
    ids_BT, labels_BT = _padded(lessons, pad)
    with mixed_precision():
        hidden_BTD = model.model(ids_BT, use_cache=False).last_hidden_state
        taught = labels_BT[:, 1:] >= 0
        logits_NV = model.lm_head(hidden_BTD[:, :-1][taught])
    return torch.nn.functional.cross_entropy(
        logits_NV.float(), labels_BT[:, 1:][taught], reduction="sum"
    )


def _copying_exercises(tokenizer: PreTrainedTokenizerFast, step: int) -> list[Lesson]:
    """P_replace's question without its fixed part, and of its reply only what is copied.

    What stands between the copied parts is not taught: it would not be the prompt's form.
    """
    lessons = []
    for index in range(NUM_COPIES):
        rng = random.Random(f"copy {step} {index}")
        edit = sample_edit(rng, range(HELD_OUT_SEED))
        offered = list(edit.detections)
        rng.shuffle(offered)
        objects = listed({name: edit.detections[name].get("about") for name in offered})
        question = f"Caption: {edit.before}\nCategories: {', '.join(offered)}\nObjects: {objects}\n"
        parts = [
            (f"{ROLES[1]}{question}{ROLES[2]}{REPLY_PIECES[3]}", False),
            (edit.selected, True),
            (f"{REPLY_PIECES[4]}{edit.target}{REPLY_PIECES[8]}", False),
            (f"{edit.after}{REPLY_PIECES[9]}", True),
        ]
        ids: list[int] = []
        labels: list[int] = []
        for text, taught in parts:
            piece = _ids(tokenizer, text)
            ids += piece
            labels += piece if taught else [-1] * len(piece)
        lessons.append((ids, labels))
    return lessons


def batch(tokenizer: PreTrainedTokenizerFast, step: int, size: int) -> list[Lesson]:
    """The conversations of a step; the replies are taught."""
    lessons = []
    for index in range(size):
        seed = step * size + index
        talk = conversation(seed, scene_seeds=range(HELD_OUT_SEED))
        messages: Any = _with_lines_dropped(talk, random.Random(seed))
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        question, reply = _ids(tokenizer, str(text)), _ids(tokenizer, talk.reply + END)
        lessons.append(([*question, *reply], [*([-1] * len(question)), *reply]))
    return lessons


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _with_lines_dropped(talk: Conversation, rng: random.Random) -> list[Message]:
    """The messages; in one of three conversations some lines of the fixed prompt are missing.

    So that the model still answers when someone rewords a line of it.
    """
    messages = [message.copy() for message in talk.messages]
    if messages[0]["role"] == "system" and rng.random() < 0.33:
        lines = messages[0]["content"].split("\n")
        lines = [line for line in lines if rng.random() >= DROPPED_LINES]
        messages[0]["content"] = "\n".join(lines)
    return messages


def _padded(lessons: list[Lesson], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels (-1 where nothing is taught), padded on the right: causal, so no mask."""
    ids, labels = ([torch.tensor(row) for row in rows] for rows in zip(*lessons, strict=True))
    pad_sequence = torch.nn.utils.rnn.pad_sequence
    return pad_sequence(ids, True, pad), pad_sequence(labels, True, -1)


def _fixed_lines() -> list[str]:
    """The lines of the shipped prompts that hold no field, and what stands before a field.

    Among them the lines of all worked examples, and how an object's size, shape and place are told.
    """
    pieces: list[str] = []
    for name in ("gen", "select", "replace", "again"):
        prompt = load(name)
        *lines, last = prompt.system.removesuffix("\n$examples").split("\n")
        pieces += [*(f"{line}\n" for line in lines), last]
        pieces += [line.partition(" $")[0] for line in prompt.user.split("\n")]
    for name in NUM_EXAMPLES:
        pieces += [line for _, lines in examples(name) for line in lines.split("\n")]
    pieces += [f" % of the picture, {shape}, {place})" for shape in SHAPES for place in PLACES]
    return [piece for piece in dict.fromkeys(pieces) if len(piece.strip()) > 4]


def _variable_texts(count: int) -> Iterator[str]:
    for seed in range(count):
        talk = conversation(seed, scene_seeds=range(HELD_OUT_SEED))
        for message in talk.messages[1:]:
            yield from message["content"].split(": ")
        yield from _strings(json.loads(talk.reply))


def _strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from _strings(value)

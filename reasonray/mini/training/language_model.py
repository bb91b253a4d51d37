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
from reasonray.mini.training.loop import Schedule, fit, mixed_precision
from reasonray.mini.training.vocabulary import byte_pairs
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

MIN_P = 0.02
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
    """The untrained model."""
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


def train(workdir: Path, schedule: Schedule = SCHEDULE) -> LlamaForCausalLM:
    """Train (or continue); the loss is on the replies only."""
    tokenizer = load_tokenizer(workdir)
    model = build(tokenizer)

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        asked = batch(tokenizer, step, BATCH)
        count = sum(label >= 0 for _, labels in asked for label in labels)
        asked.sort(key=lambda pair: len(pair[0]))
        size = BATCH // MICRO_BATCHES
        total = torch.zeros(())
        for start in range(0, BATCH, size):
            total = total + _loss_sum(model, asked[start : start + size], tokenizer.pad_token_id)
        copies = _copying_exercises(tokenizer, step)
        copied = _loss_sum(model, copies, tokenizer.pad_token_id)
        copied = copied / sum(label >= 0 for _, labels in copies for label in labels)
        return total / count + 0.5 * copied, {
            "said": total.item() / count,
            "copied": copied.item(),
        }

    fit("language_model", model, loss, schedule, workdir)
    return model


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
        offered = list(edit.scene.categories)
        rng.shuffle(offered)
        asked = f"Caption: {edit.before}\nCategories: {', '.join(offered)}\n"
        parts = [
            (f"{ROLES[1]}{asked}{ROLES[2]}{REPLY_PIECES[3]}", False),
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


def save(model: LlamaForCausalLM, workdir: Path, folder: Path) -> None:
    """Write weights (float16), tokenizer and generation settings for `from_pretrained`."""
    tokenizer = load_tokenizer(workdir)
    model.generation_config = GenerationConfig(
        do_sample=True,
        min_p=MIN_P,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_tokenizer(workdir: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that belongs to the checkpoint in a folder; made when there is none yet."""
    folder = workdir / "language_model_tokenizer"
    if not (folder / "tokenizer.json").exists():
        build_tokenizer().save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def batch(tokenizer: PreTrainedTokenizerFast, step: int, size: int) -> list[Lesson]:
    """The conversations of a step; the replies are taught."""
    lessons = []
    for index in range(size):
        seed = step * size + index
        said = conversation(seed, scene_seeds=range(HELD_OUT_SEED))
        messages: Any = _with_lines_dropped(said, random.Random(seed))
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        question, reply = _ids(tokenizer, str(text)), _ids(tokenizer, said.reply + END)
        lessons.append(([*question, *reply], [*([-1] * len(question)), *reply]))
    return lessons


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _with_lines_dropped(said: Conversation, rng: random.Random) -> list[Message]:
    """The messages; in one of three conversations some lines of the fixed prompt are missing.

    So that the model still answers when someone rewords a line of it.
    """
    messages = [message.copy() for message in said.messages]
    if messages[0]["role"] == "system" and rng.random() < 0.33:
        lines = messages[0]["content"].split("\n")
        kept = [line for line in lines if rng.random() >= DROPPED_LINES]
        messages[0]["content"] = "\n".join(kept)
    return messages


def _padded(lessons: list[Lesson], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels (-1 where nothing is taught), padded on the right: causal, so no mask."""
    longest = max(len(ids) for ids, _ in lessons)
    ids_BT = torch.full((len(lessons), longest), pad)
    labels_BT = torch.full((len(lessons), longest), -1)
    for row, (ids, labels) in enumerate(lessons):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        labels_BT[row, : len(labels)] = torch.tensor(labels)
    return ids_BT, labels_BT


def _fixed_lines() -> list[str]:
    """The lines of the shipped prompts that hold no field, and what stands before a field."""
    found: dict[str, None] = {}
    for name in ("gen", "select", "replace", "again"):
        prompt = load(name)
        lines = prompt.system.split("\n")
        found.update(dict.fromkeys(f"{line}\n" for line in lines[:-1]))
        found[lines[-1]] = None
        for line in prompt.user.split("\n"):
            found[line.partition(" $")[0]] = None
    return [line for line in found if len(line.strip()) > 4]


def _variable_texts(count: int) -> Iterator[str]:
    for seed in range(count):
        said = conversation(seed, scene_seeds=range(HELD_OUT_SEED))
        yield from (
            line for message in said.messages[1:] for line in message["content"].split(": ")
        )
        yield from _strings(json.loads(said.reply))


def _strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)

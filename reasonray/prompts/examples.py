"""What varies from row to row in a question: the worked examples, and the kind of reasoning wanted.

Independent requests that all show the same examples pile up on a few targets and on one kind of
reasoning. Both are drawn from the row's seed.
"""

import functools
import json
import random
from pathlib import Path
from typing import Any, cast

import yaml

from reasonray.core.record import REASONING_TYPES, ReasoningType

NUM_EXAMPLES = {"gen": 2, "replace": 3}
"""Shown in one question; one of them is of the kind of reasoning that is wanted."""

Example = tuple[frozenset[str], str]
"""The kinds of reasoning in it, and its two lines: the question, and the reply in JSON."""


def varied(name: str, seed: int) -> dict[str, str]:
    """The fields `examples` and `reasoning_type` of a prompt.

    Args:
        name: gen or replace.
        seed: the row's.
    """
    rng = random.Random(seed)
    kind: ReasoningType = rng.choice(REASONING_TYPES)
    pool = examples(name)
    first = rng.choice([example for example in pool if kind in example[0]])
    others = rng.sample([example for example in pool if example is not first], len(pool) - 1)
    chosen = [first, *others[: NUM_EXAMPLES[name] - 1]]
    rng.shuffle(chosen)
    return {"examples": "\n".join(lines for _, lines in chosen), "reasoning_type": kind}


@functools.cache
def examples(name: str) -> tuple[Example, ...]:
    """All worked examples of a prompt that has varying ones."""
    content = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    written = {"gen": _gen, "replace": _replace}[name]
    return tuple(written(cast(dict[str, Any], each)) for each in content[name])


def _replace(example: dict[str, Any]) -> Example:
    names = ", ".join(part.split(" (")[0] for part in example["objects"].split("), "))
    reply = {
        "selected_category": example["selected"],
        "target_category": example["target"],
        "instruction": example["instruction"],
        "rationale": example["rationale"],
        "reasoning_type": example["type"],
        "edited_caption": example["edited"],
    }
    question = (
        f"Caption: {example['caption']} | Categories: {names} | Objects: {example['objects']}"
    )
    return frozenset([example["type"]]), f"{question}\nReply: {json.dumps(reply)}"


def _gen(example: dict[str, Any]) -> Example:
    candidates = [
        {
            "instruction": candidate["instruction"],
            "rationale": candidate["rationale"],
            "reasoning_type": candidate["type"],
        }
        for candidate in example["candidates"]
    ]
    question = (
        f"Input caption: {example['input']} | Edited caption: {example['edited']} | "
        f"Direct instruction: {example['direct']} | "
        f"Write {len(candidates)} different instructions."
    )
    reply = json.dumps({"candidates": candidates})
    return frozenset(c["reasoning_type"] for c in candidates), f"{question}\nReply: {reply}"

"""The JSON object that a language model's reply holds, out of all that models put around it.

Thoughts before the answer are cut off, prose and code fences around the object pass. Knows
nothing of what the object's values mean.
"""

import json
import re
from collections.abc import Collection
from typing import Any

MAX_CHARACTERS = 200_000
"""Of an answer that is looked through; the longest valid one has a tenth."""

MAX_BRACES = 1000
"""Of an answer that is looked through: each is tried, and a model that loops writes thousands."""

_THOUGHTS_END = re.compile(
    r"</\s*(?:\w+:)?(?:think\w*|thoughts?|reason\w*|reflection|scratchpad|analysis)\s*>"
    r"|\[/THINK\]|◁/think▷|<\|channel\|>\s*final\s*(?:<\|message\|>)?|<\|end_of_thought\|>",
    re.IGNORECASE,
)
"""What follows the last of these is the answer; the opening mark often stands in the prompt."""

_THOUGHTS_BEGIN = re.compile(
    r"\s*(?:<(?:\w+:)?(?:think\w*|thoughts?|reason\w*|reflection|scratchpad)>"
    r"|\[THINK\]|◁think▷|<\|channel\|>\s*analysis|<\|begin_of_thought\|>)",
    re.IGNORECASE,
)


class NotTheFormError(ValueError):
    """A reply without a usable JSON object; the text is one sentence for the model."""


def json_object(reply: str, keys: Collection[str]) -> dict[str, Any]:
    """The last whole JSON object in a reply that has all the keys.

    Models repeat the form before they fill it in, put the object into another or into a list, and
    some say it twice. Where no object has the keys it is the last one, for the caller to say what
    is missing.

    Args:
        reply: a model's text, thoughts included.
        keys: of the required form.

    Raises:
        NotTheFormError: nothing after the thoughts is a whole JSON object.
    """
    text = answer(reply)
    if len(text) > MAX_CHARACTERS or text.count("{") > MAX_BRACES:
        raise NotTheFormError("The reply is far too long.")
    if not text.strip():
        raise NotTheFormError(
            "The reply is empty." if not reply.strip() else "The reply holds thoughts alone."
        )
    fault: str | None = None
    decoder = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    complete: dict[str, Any] | None = None
    other: dict[str, Any] | None = None
    other_end = 0
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            content, content_end = decoder.raw_decode(text, start)
        except NotTheFormError as error:
            fault = str(error)
        except (ValueError, RecursionError):
            fault = "The reply is not valid JSON."
        else:
            if all(key in content for key in keys):
                complete, end = content, content_end
            elif start >= other_end and fault is None:
                # Looked into as well: the form may stand inside.
                other, other_end = content, content_end
        start = text.find("{", end)
    content = complete if complete is not None else other
    if content is None:
        raise NotTheFormError(fault or "The reply holds no JSON object.")
    return content


def answer(reply: str) -> str:
    """A reply without the thoughts before its answer; empty where it ends within them."""
    ends = list(_THOUGHTS_END.finditer(reply))
    if ends:
        return reply[ends[-1].end() :]
    return "" if _THOUGHTS_BEGIN.match(reply) else reply


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise NotTheFormError("A key stands twice in one JSON object.")
    return content


def _no_constant(name: str) -> None:
    raise NotTheFormError(f"{name} is not valid JSON.")

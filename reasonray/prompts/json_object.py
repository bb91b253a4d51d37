"""The JSON object that a language model's reply holds, out of all that models put around it.

Thoughts before the answer are cut off, prose and code fences around the object pass. Knows
nothing of what the object's values mean.
"""

import ast
import json
import re
from collections.abc import Collection
from typing import Any

MAX_CHARACTERS = 200_000
"""Of an answer that is looked through; the longest valid one has a tenth."""

MAX_BRACES = 1000
"""Of an answer that is looked through: each is tried, and a model that loops writes thousands."""

_MARK = re.compile(
    r"(?P<end></\s*(?:\w+:)?(?:think\w*|thoughts?|reason\w*|reflection|scratchpad|analysis)\s*>"
    r"|\[/THINK\]|◁/think▷|<\|channel\|>\s*final\s*(?:<\|message\|>)?|<\|end_of_thought\|>)"
    r"|<(?:\w+:)?(?:think\w*|thoughts?|reason\w*|reflection|scratchpad)>"
    r"|\[THINK\]|◁think▷|<\|channel\|>\s*analysis|<\|begin_of_thought\|>",
    re.IGNORECASE,
)
"""Where thoughts begin or end; the first beginning often stands in the prompt."""

_NOT_JSON = "The reply is not valid JSON."


class NotTheFormError(ValueError):
    """A reply without a usable JSON object; the text is one sentence for the model."""


def json_object(reply: str, keys: Collection[str]) -> dict[str, Any]:
    """The last whole JSON object in a reply that has all the keys.

    Models repeat the form before they fill it in, put the object into another or into a list, and
    some say it twice. Where no object has the keys it is the last one, for the caller to say what
    is missing. Small models also write it as Python does, or leave the list out of its object.

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
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique_keys, parse_constant=_no_constant, strict=False
    )
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
            fault = _NOT_JSON
        else:
            if all(key in content for key in keys):
                complete, end = content, content_end
            elif start >= other_end and fault is None:
                # Looked into as well: the form may stand inside.
                other, other_end = content, content_end
        start = text.find("{", end)
    content = complete or _otherwise(text, keys, decoder, fault) or other
    if content is None:
        raise NotTheFormError(fault or "The reply holds no JSON object.")
    return content


def answer(reply: str) -> str:
    """A reply without its thoughts, which stand before the answer, and behind it with some."""
    pieces: list[str] = []
    position, is_thought = 0, False
    for mark in _MARK.finditer(reply):
        if mark["end"]:
            if not is_thought:
                pieces.clear()
            position, is_thought = mark.end(), False
        elif not is_thought:
            pieces.append(reply[position : mark.start()])
            is_thought = True
    return "".join(pieces if is_thought else [*pieces, reply[position:]])


def _otherwise(
    text: str, keys: Collection[str], decoder: json.JSONDecoder, fault: str | None
) -> dict[str, Any] | None:
    """The form in another notation, as models write it that have read more code than JSON."""
    content = _of_list(text, *keys, decoder=decoder) if len(keys) == 1 else None
    return content or (_as_python(text) if fault == _NOT_JSON else None)


def _of_list(text: str, key: str, *, decoder: json.JSONDecoder) -> dict[str, Any] | None:
    """The form whose only key a reply has left out: a list of objects that begins it."""
    start = text.find("[")
    if start < 0 or start > text.find("{"):
        return None
    try:
        listed, _ = decoder.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return {key: listed} if all(isinstance(each, dict) for each in listed) else None


def _as_python(text: str) -> dict[str, Any] | None:
    """The object as Python would write it: in single quotes, with a comma after the last value."""
    try:
        content = ast.literal_eval(text[text.find("{") : text.rfind("}") + 1])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return (
        content if isinstance(content, dict) and all(isinstance(k, str) for k in content) else None
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = {key.strip().lower(): value for key, value in pairs}
    if len(content) < len(pairs):
        raise NotTheFormError("A key stands twice in one JSON object.")
    return content


def _no_constant(name: str) -> None:
    raise NotTheFormError(f"{name} is not valid JSON.")

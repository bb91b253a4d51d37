"""What a chat server's HTTP answer says, in the forms that such servers have.

In: status, headers and body. Out: an `Answer` or a `Fault`. A fault may come with any status, 200
included, as JSON of several forms, an event stream or a web page. What it means for a request is
`server_faults`' matter.
"""

import email.utils
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_WORDS = 300
"""Characters of a fault that a person is shown."""

_DELAY = re.compile(
    r"(?:(?:try again|retry)\W+(?:after|in)\W+(?:about )?|retryDelay\W+|estimated_time\W+)"
    r"((?:\d+(?:\.\d+)? ?(?:ms|[smhd])?)+)",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

MAX_TEXT = 4000
"""Characters of a fault that are searched."""


CUT_OFF = ("length", "max_tokens", "model_length")
"""Words for a reply that reached its limit."""

FILTERED = ("content_filter", "safety", "recitation", "prohibited_content", "sensitive")
"""Words for a reply that the server's filter held back."""


@dataclass(frozen=True)
class Answer:
    """One reply.

    Attributes:
        text: the reply, thoughts included where the server mixes them in.
        finish_reason: length, content_filter or any other word of the server, lower case.
        refusal: the model's own words where it refuses, else empty.
        has_thoughts: whether there are thoughts beside the text.
        num_tokens: of question and reply; None where the server does not say.
        num_written: those of the reply, thoughts included.
        model: the server's name for what has answered; empty where it does not say.
    """

    text: str
    finish_reason: str = ""
    refusal: str = ""
    has_thoughts: bool = False
    num_tokens: int | None = None
    num_written: int | None = None
    model: str = ""


@dataclass(frozen=True)
class Fault:
    """What a server says instead of a reply.

    Attributes:
        status: of HTTP, or the one that the body names.
        words: the server's own, one line of at most 300 characters, without a full stop.
        text: the whole body on one line, at most 4,000 characters.
        code: of the error, e.g. insufficient_quota; else empty.
        param: of the request, named by the error; else empty.
        wait: seconds that the server asks to wait; None where it does not.
    """

    status: int
    words: str
    text: str = ""
    code: str = ""
    param: str = ""
    wait: float | None = None


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer | Fault:
    """Tell a reply from a fault.

    Args:
        status: of HTTP.
        headers: with lower-case names.
        body: as it came.
    """
    content_type = headers.get("content-type", "")
    text = _decoded(body, content_type)
    content = _content(text, content_type)
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    choice = _choice(content)
    error = _error(content, choice)
    if error is None and status < 400:
        if choice is not None:
            return _answer(choice, content)
        words = f"its answer is no chat completion: {_words(text) or 'it is empty'}"
    else:
        error = error or content or text
        status = _stated(error) or (status if status >= 400 else 500)
        words = _words(error)
    line = _line(text)[:MAX_TEXT]
    return Fault(
        status=status,
        words=words[:MAX_WORDS].rstrip(". ") or f"status {status} without a word",
        text=line,
        code=_field(error, "code") or _field(error, "type"),
        # Of "body.response_format.type", as pydantic's words have it, the parameter.
        param=_field(error, "param").removeprefix("body.").partition(".")[0],
        wait=_wait(headers, line),
    )


def _decoded(body: bytes, content_type: str) -> str:
    charset = re.search(r"charset=[\"']?([\w-]+)", content_type)
    try:
        return body.decode(charset[1] if charset else "utf-8").removeprefix("\ufeff")
    except (LookupError, UnicodeDecodeError):
        return body.decode("utf-8", "replace").removeprefix("\ufeff")


def _content(text: str, content_type: str) -> Any:
    """The body's JSON, an event stream put together; None where it is neither."""
    if "event-stream" in content_type or re.match(r"\s*(data|event|id|retry)?:", text):
        return _streamed(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _streamed(text: str) -> Any:
    """One completion, or the error, out of a stream's chunks."""
    merged: dict[str, Any] = {}
    message: dict[str, Any] = {}
    finish_reason = None
    for chunk in _chunks(text):
        if _error(chunk, None) is not None:
            return chunk
        merged.update({key: value for key, value in chunk.items() if value is not None})
        choice = _choice(chunk)
        if choice is None:
            continue
        finish_reason = choice.get("finish_reason") or finish_reason
        for key, value in (choice.get("delta") or choice.get("message") or choice).items():
            if isinstance(value, str) and key != "role":
                message[key] = message.get(key, "") + value
            elif isinstance(value, list):
                message[key] = message.get(key, []) + value
    if not message and finish_reason is None:
        return None
    return {**merged, "choices": [{"message": message, "finish_reason": finish_reason}]}


def _chunks(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("data:"):
            try:
                chunk = json.loads(line.removeprefix("data:"))
            except ValueError:
                continue
            if isinstance(chunk, dict):
                yield chunk


def _choice(content: Any) -> dict[str, Any] | None:
    choices = content.get("choices") if isinstance(content, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _error(content: Any, choice: dict[str, Any] | None) -> Any:
    """The part of the body that is an error; None where there is none."""
    if isinstance(content, dict) and content.get("error"):
        return content["error"]
    if choice is None:
        return None
    if choice.get("error"):
        return choice["error"]
    return "the reply ended in an error" if choice.get("finish_reason") == "error" else None


def _answer(choice: dict[str, Any], content: Any) -> Answer:
    message = choice.get("message") or choice.get("delta") or {}
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    text = _text(message.get("content")) or _text(choice.get("text")) or _called(message)
    finish_reason = str(choice.get("finish_reason") or "").lower()
    if not text.strip() and finish_reason not in CUT_OFF:
        # Some servers take the whole reply of a thinking model for its thoughts.
        text = _text(thoughts)
    num_tokens, num_read = _count(content, "total_tokens"), _count(content, "prompt_tokens")
    return Answer(
        text=text,
        finish_reason=finish_reason,
        refusal=_text(message.get("refusal")),
        has_thoughts=bool(thoughts),
        num_tokens=num_tokens,
        # Some servers leave thoughts out of completion_tokens, none out of the total.
        num_written=None if num_tokens is None or num_read is None else num_tokens - num_read,
        model=_field(content, "model"),
    )


def _count(content: Any, key: str) -> int | None:
    """A number of tokens in the answer's usage."""
    usage = content.get("usage") if isinstance(content, dict) else None
    count = usage.get(key) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


def _text(content: Any) -> str:
    """A message's text, of which some servers make parts, some an object; thoughts left out."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_part, content))
    return json.dumps(content)


def _part(part: Any) -> str:
    if isinstance(part, dict):
        return _text(part.get("text"))
    return part if isinstance(part, str) else ""


def _called(message: dict[str, Any]) -> str:
    """The arguments of a tool call: what a model gives that takes the form for a tool."""
    calls = message.get("tool_calls") or [{"function": message.get("function_call")}]
    function = calls[0].get("function") if isinstance(calls[0], dict) else None
    return _text(function.get("arguments")) if isinstance(function, dict) else ""


def _words(error: Any) -> str:
    """The sentences of an error, which may lie deep in it."""
    if isinstance(error, str):
        if "<" in error and re.search(r"<(html|body|!doctype)", error, re.IGNORECASE):
            error = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]+>", " ", error)
        return _line(error)
    if isinstance(error, list):
        return "; ".join(filter(None, map(_words, error[:5])))
    if not isinstance(error, dict):
        return "" if error is None else str(error)
    for key in ("message", "msg", "detail", "error", "errors", "error_msg", "reason", "title"):
        if error.get(key):
            place = error.get("loc")
            where = ".".join(map(str, place)) + ": " if isinstance(place, list | tuple) else ""
            further = error.get("metadata")
            raw = further.get("raw") if isinstance(further, dict) else None
            return where + _words(error[key]) + (f" ({_words(raw)})" if raw else "")
    return json.dumps(error)


def _stated(error: Any) -> int | None:
    """The status that an error names for itself."""
    for key in ("code", "status", "status_code"):
        value = error.get(key) if isinstance(error, dict) else None
        if isinstance(value, int | str) and re.fullmatch(r"[45]\d\d", str(value)):
            return int(value)
    return None


def _field(error: Any, key: str) -> str:
    value = error.get(key) if isinstance(error, dict) else None
    return value if isinstance(value, str) else ""


def _wait(headers: Mapping[str, str], text: str) -> float | None:
    """Seconds to wait: a header's number or date, else what the words say."""
    header = headers.get("retry-after")
    if header is not None:
        try:
            return max(0.0, float(header))
        except ValueError:
            try:
                date = email.utils.parsedate_to_datetime(header)
                return max(0.0, date.timestamp() - time.time())
            except ValueError:
                pass
    match = _DELAY.search(text)
    if match is None:
        return None
    # "1m2.5s", "20 seconds", "33"
    amounts = re.findall(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)?", match[1].lower())
    return sum(float(amount) * _UNITS[unit or "s"] for amount, unit in amounts)


def _line(text: str) -> str:
    return " ".join(text.split())

"""The one parser and validator of language-model replies, for all backends and stages.

Each `parse_*` gives a typed reply or raises `ReplyError` with a code and a sentence; the sentence
goes back to the model when it is asked again. Each `*_schema` is the JSON schema of the reply,
for backends with structured output (OpenAI's strict subset: every key required, none besides).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reasonray.core.record import REASONING_TYPES, ReasoningType
from reasonray.prompts.json_object import NotTheFormError, json_object
from reasonray.prompts.words import equivalent, introduced, mentions, naming, words

ReplyFault = Literal["invalid_reply", "not_indirect", "category_not_offered", "unfit_target"]

MAX_INSTRUCTION_WORDS = 60
MAX_TARGET_WORDS = 5
MAX_CHARACTERS = 600
"""Of any text in a reply."""


class ReplyError(ValueError):
    """A reply cannot be used.

    Attributes:
        code: what kind of fault; a rejection's reason when no try mended it.
        reason: one sentence for the model (and, in a rejection, for a person).
    """

    def __init__(self, code: ReplyFault, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Candidate:
    """A reasoning instruction, the sentence that explains it, and what kind it is."""

    instruction: str
    rationale: str
    reasoning_type: ReasoningType


@dataclass(frozen=True)
class Choice:
    """P_select's: the 0-based index of the best candidate, and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class Replacement:
    """P_replace's: what is replaced by what, how it is asked for, and the caption afterwards."""

    selected_category: str
    target_category: str
    candidate: Candidate
    edited_caption: str


def parse_candidates(
    reply: str,
    *,
    num_candidates: int,
    input_caption: str,
    edited_caption: str,
    direct_instruction: str,
) -> tuple[Candidate, ...]:
    """P_gen's reply: exactly so many candidates, all different, none naming what comes in.

    Raises:
        ReplyError: invalid_reply or not_indirect.
    """
    content = _json_object(reply, "candidates")
    listed = content.get("candidates")
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ReplyError("invalid_reply", 'The key "candidates" must hold a list of objects.')
    if len(listed) != num_candidates:
        raise ReplyError(
            "invalid_reply", f"There must be {num_candidates} candidates, not {len(listed)}."
        )
    telling = introduced(input_caption, edited_caption, direct_instruction)
    candidates = tuple(_candidate(item) for item in listed)
    for candidate in candidates:
        _check_indirect(candidate.instruction, telling)
    spelled = [" ".join(words(candidate.instruction)) for candidate in candidates]
    if len(set(spelled)) < len(spelled):
        raise ReplyError("invalid_reply", "The instructions must all be different.")
    return candidates


def parse_choice(reply: str, *, num_candidates: int) -> Choice:
    """P_select's reply: a number from 1 to `num_candidates`.

    Raises:
        ReplyError: invalid_reply.
    """
    content = _json_object(reply, "choice", "reason")
    number = _whole_number(content.get("choice"))
    if number is None or not 1 <= number <= num_candidates:
        raise ReplyError(
            "invalid_reply", f'The key "choice" must be a number from 1 to {num_candidates}.'
        )
    return Choice(number - 1, _text(content, "reason"))


def parse_replacement(reply: str, *, caption: str, categories: Sequence[str]) -> Replacement:
    """P_replace's reply.

    Args:
        reply: the model's text.
        caption: of the input image.
        categories: what was offered; the selected one comes back in this spelling.

    Raises:
        ReplyError: invalid_reply, category_not_offered, unfit_target or not_indirect.
    """
    content = _json_object(reply, *_REPLACEMENT_PROPERTIES)
    selection = _text(content, "selected_category")
    offered = {" ".join(words(category)): category for category in categories}
    selected = offered.get(" ".join(words(selection)))
    if selected is None:
        raise ReplyError(
            "category_not_offered",
            f'The selected category "{selection}" is not one of: {", ".join(categories)}.',
        )
    target = _target(_text(content, "target_category"), selected, caption, categories)
    candidate = _candidate(content)
    _check_indirect(candidate.instruction, [target, selected])
    edited_caption = _text(content, "edited_caption")
    if not mentions(edited_caption, target):
        raise ReplyError(
            "invalid_reply", f'The edited caption must name the target category "{target}".'
        )
    return Replacement(selected, target, candidate, edited_caption)


def candidates_schema(num_candidates: int) -> dict[str, Any]:
    """JSON schema of P_gen's reply."""
    items = _object_schema(_CANDIDATE_PROPERTIES)
    listed = {
        "type": "array",
        "items": items,
        "minItems": num_candidates,
        "maxItems": num_candidates,
    }
    return _object_schema({"candidates": listed})


def choice_schema() -> dict[str, Any]:
    """JSON schema of P_select's reply; the parser sees to it that the number is one of theirs."""
    return _object_schema({"choice": {"type": "integer"}, "reason": _STRING})


def replacement_schema() -> dict[str, Any]:
    """JSON schema of P_replace's reply; the parser sees to it that the category was offered.

    The same for all rows: servers compile a grammar for each new schema, and it stands before
    the prompt in their caches.
    """
    return _object_schema(_REPLACEMENT_PROPERTIES)


_STRING = {"type": "string"}
_CANDIDATE_PROPERTIES = {
    "instruction": _STRING,
    "rationale": _STRING,
    "reasoning_type": {"type": "string", "enum": list(REASONING_TYPES)},
}
_REPLACEMENT_PROPERTIES = {
    "selected_category": _STRING,
    "target_category": _STRING,
    **_CANDIDATE_PROPERTIES,
    "edited_caption": _STRING,
}


def _object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _json_object(reply: str, *keys: str) -> dict[str, Any]:
    """The object of a reply that has the keys, or the nearest to it."""
    try:
        return json_object(reply, keys)
    except NotTheFormError as error:
        raise ReplyError("invalid_reply", str(error)) from error


def _text(content: dict[str, Any], key: str) -> str:
    """A text of bounded length on one line, free of what Arrow or a terminal would choke on."""
    text = content.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ReplyError("invalid_reply", f'The key "{key}" must hold a text.')
    text = " ".join(text.split())
    if len(text) > MAX_CHARACTERS:
        raise ReplyError(
            "invalid_reply", f'The text of "{key}" is longer than {MAX_CHARACTERS} characters.'
        )
    # Lone surrogates ("\ud800" is valid JSON) cannot be written as UTF-8.
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text):
        raise ReplyError("invalid_reply", f'The text of "{key}" holds a control character.')
    return text


def _whole_number(value: Any) -> int | None:
    """A whole number as models write it where no grammar holds them: 1, 1.0 or "1"."""
    # A bool is an int to Python; a model that answers true has not chosen.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    return int(text.removesuffix(".0")) if re.fullmatch(r"\d{1,3}(\.0)?", text) else None


def _candidate(content: dict[str, Any]) -> Candidate:
    instruction = _text(content, "instruction")
    count = len(words(instruction))
    if not 2 <= count <= MAX_INSTRUCTION_WORDS:
        raise ReplyError(
            "invalid_reply",
            f"An instruction must have 2 to {MAX_INSTRUCTION_WORDS} words, not {count}.",
        )
    rationale = _text(content, "rationale")
    kind = _text(content, "reasoning_type").lower()
    if kind not in REASONING_TYPES:
        raise ReplyError(
            "invalid_reply",
            f'The reasoning_type "{kind}" is not one of: {", ".join(REASONING_TYPES)}.',
        )
    return Candidate(instruction, rationale, kind)


def _check_indirect(instruction: str, telling: Sequence[str]) -> None:
    word = naming(instruction, telling)
    if word is not None:
        raise ReplyError(
            "not_indirect", f'The instruction names it directly with the word "{word}".'
        )


def _target(text: str, selected: str, caption: str, categories: Sequence[str]) -> str:
    """The target without article, lower case, if it can take the selected one's place."""
    target = re.sub(r"^(an?|the|some)\s+", "", text.lower().strip(" .,;:!?\"'"))
    if not 1 <= len(words(target)) <= MAX_TARGET_WORDS:
        raise ReplyError(
            "unfit_target", f"The target category must have 1 to {MAX_TARGET_WORDS} words."
        )
    if equivalent(target, selected):
        raise ReplyError(
            "unfit_target", f'The target category "{target}" is the same as "{selected}".'
        )
    if any(equivalent(target, category) for category in categories) or mentions(caption, target):
        raise ReplyError(
            "unfit_target", f'The target category "{target}" is in the picture already.'
        )
    return target

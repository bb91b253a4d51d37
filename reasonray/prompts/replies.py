"""The one parser and validator of language-model replies, for all backends and stages.

Each `parse_*` gives a typed reply or raises `ReplyError` with a code and a sentence; the sentence
goes back to the model when it is asked again. Each `*_schema` is the JSON schema of the reply,
for backends with structured output (OpenAI's strict subset: every key required, none besides).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reasonray.core.record import REASONING_TYPES, ReasoningType
from reasonray.prompts.edits import caption_fault, unfit
from reasonray.prompts.english import is_english
from reasonray.prompts.json_object import NotTheFormError, json_object
from reasonray.prompts.words import introduced, naming, words

ReplyFault = Literal["invalid_reply", "not_indirect", "category_not_offered", "unfit_target"]

MIN_CANDIDATES = 2
"""Least that P_select can choose from."""

MAX_INSTRUCTION_WORDS = 60
MAX_CHARACTERS = 600
"""Of any text in a reply but a judge's reasons."""

MAX_REASON_CHARACTERS = 4000

Ranges = Mapping[str, tuple[int, int]]
"""A judge's axes: name -> lowest and highest score."""


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


@dataclass(frozen=True)
class Verdict:
    """A judge's scores and why, by axis."""

    scores: Mapping[str, int]
    reasons: Mapping[str, str]


def parse_candidates(
    reply: str,
    *,
    num_candidates: int,
    input_caption: str,
    edited_caption: str,
    direct_instruction: str,
) -> tuple[Candidate, ...]:
    """P_gen's reply: the candidates that are valid, different, and name nothing that comes in.

    One bad candidate takes none of the others with it; a second one (where more than one was asked
    for) is enough to choose from.

    Args:
        reply: the model's text.
        num_candidates: asked for; the first so many good ones are kept.
        input_caption, edited_caption, direct_instruction: of the pair.

    Raises:
        ReplyError: invalid_reply or not_indirect; the first fault's, where too few are good.
    """
    content = _json_object(reply, "candidates")
    listed = content.get("candidates")
    if isinstance(listed, dict):  # numbered
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise ReplyError("invalid_reply", 'The key "candidates" must hold a list of objects.')
    telling = introduced(input_caption, edited_caption, direct_instruction)
    candidates: dict[str, Candidate] = {}
    faults: list[ReplyError] = []
    for item in listed:
        try:
            candidate = _candidate(item)
            _check_instruction(candidate.instruction, telling)
        except ReplyError as fault:
            faults.append(fault)
            continue
        spelling = " ".join(words(candidate.instruction))
        if candidates.setdefault(spelling, candidate) is not candidate:
            faults.append(ReplyError("invalid_reply", "The instructions must all be different."))
    if len(candidates) >= min(MIN_CANDIDATES, num_candidates):
        return tuple(candidates.values())[:num_candidates]
    if faults:
        raise faults[0]
    raise ReplyError(
        "invalid_reply", f"There must be {num_candidates} candidates, not {len(listed)}."
    )


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


def parse_replacement(
    reply: str, *, caption: str, categories: Sequence[str], several: Collection[str] = ()
) -> Replacement:
    """P_replace's reply.

    Args:
        reply: the model's text.
        caption: of the input image.
        categories: what was offered; the selected one comes back in this spelling.
        several: those of the categories of which more than one is in the picture.

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
    target = re.sub(
        r"^(an?|the|some)\s+", "", _text(content, "target_category").lower().strip(" .,;:!?\"'")
    )
    if (why := unfit(target, selected, caption, categories)) is not None:
        raise ReplyError("unfit_target", why)
    candidate = _candidate(content)
    _check_instruction(candidate.instruction, [target, selected])
    edited_caption = _text(content, "edited_caption")
    fault = caption_fault(
        edited_caption, caption, selected, target, is_one_of_several=selected in several
    )
    if fault is not None:
        raise ReplyError("invalid_reply", fault)
    return Replacement(selected, target, candidate, edited_caption)


def parse_verdict(reply: str, *, axes: Ranges) -> Verdict:
    """A judge's reply: for each axis a reason in words and a whole number of its range.

    No score is guessed: a half, a range, or a digit somewhere in prose is none.

    Args:
        reply: the model's text.
        axes: what is scored.

    Raises:
        ReplyError: invalid_reply.
    """
    content = _json_object(reply, *_verdict_properties(axes))
    scores, reasons = {}, {}
    for axis, (low, high) in axes.items():
        score_key, reason_key = _verdict_keys(axis)
        reasons[axis] = _text(content, reason_key, MAX_REASON_CHARACTERS)
        if not any(letter.isalpha() for letter in reasons[axis]):
            raise ReplyError(
                "invalid_reply", f'The key "{reason_key}" must hold a reason in words.'
            )
        score = _score(content.get(score_key), high)
        if score is None or not low <= score <= high:
            raise ReplyError(
                "invalid_reply",
                f'The key "{score_key}" must hold a whole number from {low} to {high}.',
            )
        scores[axis] = score
    return Verdict(scores, reasons)


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


def verdict_schema(axes: Ranges) -> dict[str, Any]:
    """JSON schema of a judge's reply, each reason before its score."""
    return _object_schema(_verdict_properties(axes))


def verdict_form(axes: Ranges) -> str:
    """The same as a judge is told it; is no JSON itself, so that an echo of it is no reply."""
    pairs = (
        f'"{reason_key}": "...", "{score_key}": <{low} to {high}>'
        for axis, (low, high) in axes.items()
        for score_key, reason_key in [_verdict_keys(axis)]
    )
    return "{" + ", ".join(pairs) + "}"


def _verdict_properties(axes: Ranges) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for axis, (low, high) in axes.items():
        score_key, reason_key = _verdict_keys(axis)
        properties[reason_key] = _STRING
        properties[score_key] = {"type": "integer", "enum": list(range(low, high + 1))}
    return properties


def _verdict_keys(axis: str) -> tuple[str, str]:
    """Of the score and its reason; in lower case, as all keys of a reply are read."""
    key = axis.lower()
    return key, f"{key}_reason"


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


def _text(content: dict[str, Any], key: str, most: int = MAX_CHARACTERS) -> str:
    """A text of bounded length on one line, free of what Arrow or a terminal would choke on."""
    text = content.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ReplyError("invalid_reply", f'The key "{key}" must hold a text.')
    text = " ".join(text.split())
    if len(text) > most:
        raise ReplyError("invalid_reply", f'The text of "{key}" is longer than {most} characters.')
    # Lone surrogates ("\ud800" is valid JSON) cannot be written as UTF-8.
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text):
        raise ReplyError("invalid_reply", f'The text of "{key}" holds a control character.')
    return text


def _whole_number(value: Any) -> int | None:
    """A whole number as models write it where no grammar holds them: 1, "1.0", "Candidate 1"."""
    # A bool is an int to Python; a model that answers true has not chosen.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    match = re.fullmatch(r"(?:candidate\W*|#)?(\d{1,3})(?:\.0|\.)?", text, re.IGNORECASE)
    return int(match[1]) if match else None


def _score(value: Any, high: int) -> int | None:
    """A whole number, also as "4/5" where 5 is the highest."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d{1,3}) ?/ ?(\d{1,3})\s*", value)):
        return int(match[1]) if int(match[2]) == high else None
    return _whole_number(value)


def _candidate(content: Any) -> Candidate:
    if not isinstance(content, dict):
        raise ReplyError("invalid_reply", "Each candidate must be an object.")
    instruction = _text(content, "instruction")
    count = len(words(instruction))
    if not 2 <= count <= MAX_INSTRUCTION_WORDS:
        raise ReplyError(
            "invalid_reply",
            f"An instruction must have 2 to {MAX_INSTRUCTION_WORDS} words, not {count}.",
        )
    rationale = _text(content, "rationale")
    kind = _text(content, "reasoning_type")
    types = [each for each in REASONING_TYPES if each in words(kind)]  # "Causal reasoning"
    if len(types) != 1:
        raise ReplyError(
            "invalid_reply",
            f'The reasoning_type "{kind}" is not one of: {", ".join(REASONING_TYPES)}.',
        )
    return Candidate(instruction, rationale, types[0])


def _check_instruction(instruction: str, telling: Sequence[str]) -> None:
    word = naming(instruction, telling)
    if word is not None:
        raise ReplyError(
            "not_indirect", f'The instruction names it directly with the word "{word}".'
        )
    if not is_english(instruction):  # the check above is
        raise ReplyError("invalid_reply", "An instruction must be in English.")

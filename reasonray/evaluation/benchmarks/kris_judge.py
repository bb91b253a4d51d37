"""What KRIS-Bench's judge is asked, in our own words, and how its scripts read the replies."""

import json
import re
from dataclasses import dataclass

import PIL.Image

from reasonray.core.errors import RowError
from reasonray.evaluation.benchmarks.rubric import AFTER, BEFORE, TRUTH, Axis, Shown, call
from reasonray.evaluation.items import Item, JudgeCall

_UNTOLD = "_as_published"
"""Ends the names of the calls and axes of which the judge is told nothing, as published."""

_CONSISTENCY = Axis(
    "Did all stay that the instruction does not ask to change? Whether the change itself is right "
    "does not count here.",
    {5: "all did", 4: "one very small thing changed", 3: "one clear thing changed"}
    | {2: "two or more clear things changed", 1: "most did not stay"},
)
_QUALITY = Axis(
    "Looking at this picture alone: is it whole, natural and free of artifacts? Softness or a low "
    "resolution is no fault.",
    {5: "wholly", 4: "one small flaw", 3: "one or two clear flaws", 2: "several that disturb"}
    | {1: "broken"},
)
_INSTRUCTION = Axis(
    "Is just what the instruction asks for there, on the right thing and in the right degree? "
    "Other changes do not count here.",
    {5: "exactly", 4: "all but a detail", 3: "the main thing, with a part wrong or missing"}
    | {2: "little of it", 1: "nothing of it, or something else"},
)
_KNOWLEDGE = Axis(
    "Does the result agree with how the world is, as the explanation says? 1 where the instruction "
    "was hardly followed (2 or less).",
    {5: "in all", 4: "but for a detail", 3: "one clear contradiction", 2: "several"}
    | {1: "it contradicts the plainest facts"},
)


@dataclass(frozen=True)
class _View:
    """What the judge sees and is asked of one kind of layout.

    Attributes:
        shown: for consistency and instruction, in order.
        consistency, instruction: the questions, where they differ from the common ones.
        truth: shown for instruction as well.
    """

    shown: Shown
    consistency: Axis = _CONSISTENCY
    instruction: Axis = _INSTRUCTION
    truth: Shown = ()


def asked(
    item: Item, edited: PIL.Image.Image, *, has_knowledge: bool, also_as_published: bool
) -> list[JudgeCall]:
    """The calls about an edited picture.

    Args:
        item: of KRIS-Bench.
        edited: RGB.
        has_knowledge: whether knowledge is judged, with the instruction in one call.
        also_as_published: whether to ask once more without instruction and explanation.

    Raises:
        RowError: a picture is missing or broken.
    """
    view = _view(item, edited)
    calls = _asked(
        item, view, item.instruction, item.reference_text, "", has_knowledge=has_knowledge
    )
    if also_as_published:
        calls += _asked(item, view, "", "", _UNTOLD, has_knowledge=has_knowledge)
    return [*calls, call("quality", [(AFTER, edited)], {}, {"quality": _QUALITY})]


def published_axes(call: str, reply: str) -> dict[str, int] | None:
    """The axes that the published scripts read out of a reply, guesses from prose included."""
    name = call.removesuffix(_UNTOLD)
    if name == "knowledge":
        return _dual(reply, call.removeprefix(name))
    value = _in_json(reply, f"{name}_score")
    if value is None:
        value = _in_prose(reply, name)
    return None if value is None else {call: value}


def _asked(
    item: Item, view: _View, instruction: str, explanation: str, end: str, *, has_knowledge: bool
) -> list[JudgeCall]:
    told = {"The instruction": instruction}
    explained = told | {"The explanation": explanation}
    shown = [*view.shown, *view.truth]
    calls = [call(f"consistency{end}", view.shown, told, {f"consistency{end}": view.consistency})]
    if has_knowledge:
        axes = {f"instruction{end}": view.instruction, f"knowledge{end}": _KNOWLEDGE}
        return [*calls, call(f"knowledge{end}", shown, explained, axes)]
    facts = explained if item.group == "anomaly_correction" and not end else told
    axes = {f"instruction{end}": view.instruction}
    return [*calls, call(f"instruction{end}", shown, facts, axes)]


def _view(item: Item, edited: PIL.Image.Image) -> _View:
    after = (AFTER, edited)
    before = [picture.open() for picture in item.pictures]
    if item.group == "temporal_prediction":
        numbers, predicted = item.fields["frames"]
        frames = [
            (number, (f"frame {number}, given", picture))
            for number, picture in zip(numbers, before, strict=True)
        ]
        frames.append((predicted, (f"frame {predicted}, made by the editor, judged", edited)))
        return _View(
            [shown for _, shown in sorted(frames, key=lambda frame: frame[0])],
            Axis(
                "Does the editor's frame show the same things in the same style as the given ones? "
                "What motion and time explain is no fault.",
                _CONSISTENCY.anchors,
            ),
            Axis(
                "Is the editor's frame what belongs at its place in the sequence, as the "
                "instruction asks?",
                _INSTRUCTION.anchors,
            ),
        )
    if item.group == "multi-element_composition":
        sources = [(f"source picture {number}", each) for number, each in enumerate(before, 1)]
        return _View(
            [*sources, after],
            Axis(
                "Find the source that is the ground of the composition: did all of it stay that "
                "the instruction does not ask to change?",
                _CONSISTENCY.anchors,
            ),
            Axis(
                "Is each element that the instruction asks for there, from the right source, in "
                "the right place and looking as it did?",
                _INSTRUCTION.anchors,
            ),
        )
    pair = [*((BEFORE, picture) for picture in before), after]
    if item.group != "viewpoint_change":
        return _View(pair)
    if not item.references:
        raise RowError("missing_image", f"{item.id}: no gt_img, beside which a viewpoint is judged")
    return _View(
        pair,
        instruction=Axis(
            "Is the scene seen from where the instruction says, as in the reference picture: "
            "directions, perspective, what hides what?",
            _INSTRUCTION.anchors,
        ),
        truth=[(TRUTH, item.references[0].open())],
    )


def _in_json(reply: str, key: str) -> int | None:
    match = re.search(r"\{[^{}]*" + key + r"[^{}]*\}", reply)
    try:
        return int(json.loads(match[0])[key]) if match else None
    except (ValueError, KeyError, TypeError):
        return None


def _in_prose(reply: str, name: str) -> int | None:
    for pattern in (
        name + r"[_\s]*score\s*[:：]?\s*([1-5])",
        r"([1-5])\s*/\s*5",
        r"([1-5])\s+out\s+of\s+5",
        r"\b([1-5])\b",
    ):
        match = re.search(pattern, reply, re.IGNORECASE)
        if match:
            return int(match[1])
    return None


def _dual(reply: str, end: str) -> dict[str, int] | None:
    values = {}
    for name in ("instruction", "knowledge"):
        value = _in_json(reply, f"{name}_score")
        if value is None:
            match = re.search(name + r'[_\s]*score"?\s*[:：]\s*([1-5])', reply, re.IGNORECASE)
            value = int(match[1]) if match else None
        if value is not None:
            values[f"{name}{end}"] = value
    return values or None

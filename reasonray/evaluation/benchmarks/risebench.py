"""RISEBench: edits that need reasoning about time, cause, space and logic.

https://github.com/PhoenixZ810/RISEBench (gpt_eval.py, utils.py), https://arxiv.org/abs/2504.02826.
Up to three questions to a judge about an edited picture: was kept what should be (consistency, A),
is it what reasoning leads to (R), does it look right (plausibility, V; not for logic). Logic is
judged 0 or 1, which stand for 1 and 5.

    score = .3 A + .5 R + .2 V;  .8 R + .2 V where nothing is to be kept;  .3 A + .7 R for logic
    halved where R is 1, but not below 1; in per cent 25 (score - 1)
    accuracy = share of the items of which every axis that applies is 5

Faults of the published script, in the figures "as published": where any item of the file has the
key `consistency_free`, pandas gives all others NaN, which counts as true, so that the score of
every item but logic is .8 R + .2 V. Likewise with the key `reasoning_wo_ins`: every logic item
with a reference picture is judged without its problem, for which the judge is asked once more. An
item whose reply does not parse leaves all means but that of accuracy, where it is wrong. At a
missing picture the script stops.

A leaderboard of their own have editors whose instructions were rewritten first (their issue 7).
"""

import re
from collections.abc import Sequence

import PIL.Image

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks.entries import Entry, entries, unique
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.benchmarks.rubric import AFTER, BEFORE, TRUTH, Axis, call
from reasonray.evaluation.benchmarks.table import both, means, single, without_stopped
from reasonray.evaluation.items import Axes, Benchmark, Figure, Item, JudgeCall, Scored, Scores

CATEGORIES = ("temporal_reasoning", "causal_reasoning", "spatial_reasoning", "logical_reasoning")

_LISTS = ("datav2_total_w_subtask.json", "data_total.json")

CONSISTENCY = Axis(
    "Did all stay that the instruction leaves alone: persons, objects, background, layout, style? "
    "What it asks for, or what follows from it, does not count.",
    {5: "all did", 4: "one small thing changed", 3: "one clear thing changed"}
    | {2: "several clear things changed", 1: "hardly anything is as it was"},
)
REASONING = Axis(
    "Does the picture show what the reference describes, in kind and in degree?",
    {5: "all of it", 4: "all but a detail", 3: "part of it", 2: "little of it, or wrongly"}
    | {1: "none of it"},
)
PLAUSIBILITY = Axis(
    "Looking at this picture alone: is it sharp and whole, and could it be so by the laws of "
    "nature? That it is drawn or rendered is no fault.",
    {5: "in all", 4: "small flaws", 3: "clear flaws", 2: "large flaws or strong blur"}
    | {1: "broken"},
)
_LIKENESS = Axis(
    "Does the edited picture show the result that the reference picture shows, as the instruction "
    "means it?",
    REASONING.anchors,
)
_STYLE = Axis(
    "Was the drawing itself kept: colours, strokes, lettering, arrangement, ground? Only what is "
    "the answer may differ.",
    {1: "it was", 0: "it was not"},
    low=0,
    high=1,
)
_ANSWER = Axis(
    "Does the edited picture give the reference's answer, wholly and with nothing more?",
    {1: "it does", 0: "anything differs that matters to the answer"},
    low=0,
    high=1,
)

_FINAL = re.compile(r"Final Scores?\*{0,2}:?\s*([\d*\s,]*)", re.IGNORECASE)


class RiseBench(Benchmark):
    """The hub's 360 items; the repository's 64 are read as well."""

    name = "risebench"
    rubric = "risebench 1"
    yardstick = "judge"
    num_published = 360

    def __init__(self, files: Files) -> None:
        self._files = files

    def items(self) -> Sequence[Item]:
        content, uri = self._files.read_json(*_LISTS)
        listed = entries(content, uri)
        keys = {key for entry in listed for key in entry.values}
        return unique([self._item(entry, keys) for entry in listed], uri)

    def _item(self, entry: Entry, keys: set[str]) -> Item:
        category = entry.one_of("category", CATEGORIES)
        is_logic = category == "logical_reasoning"
        text_key = "reference_txt" if is_logic else "reference"
        has_truth = entry.is_set("reference_img") and (
            category == "spatial_reasoning" or (is_logic and not entry.is_set("reference_txt"))
        )
        if not has_truth and not entry.is_set(text_key):
            raise UserError(
                f"{entry.where}: no {text_key} and no reference_img that it is judged by"
            )
        truths = [entry.text("reference_img")] if has_truth else []
        return Item(
            id=entry.text("index"),
            group=category,
            language="en",
            pictures=(self._files.picture(entry, entry.text("image")),),
            instruction=entry.text("instruction"),
            references=tuple(self._files.picture(entry, name) for name in truths),
            reference_text=entry.text(text_key, ""),
            fields={
                "subtask": entry.text("subtask", ""),
                "is_consistency_free": not is_logic
                and entry.is_set("consistency_free")
                and bool(entry.values["consistency_free"]),
                "is_judged_beside_before": entry.is_set("reasoning_img"),
                "is_judged_without_instruction": is_logic and entry.is_set("reasoning_wo_ins"),
                # What the published script takes for the value of each item.
                "consistency_free_as_published": not is_logic
                and "consistency_free" in keys
                and bool(entry.values.get("consistency_free", "NaN")),
                "without_instruction_as_published": is_logic and "reasoning_wo_ins" in keys,
            },
        )

    def output_name(self, item: Item) -> str:
        """As `Benchmark.output_name`; .jpg and .jpeg are found, too."""
        return f"images/{item.group}/{item.id}.png"

    def calls(self, item: Item, edited: PIL.Image.Image) -> list[JudgeCall]:
        is_logic = item.group == "logical_reasoning"
        # Where there is a reference picture, the edit is compared with that throughout.
        first = (
            (TRUTH, item.references[0].open())
            if item.references
            else (BEFORE, item.pictures[0].open())
        )
        pair = [first, (AFTER, edited)]
        problem = {"The problem" if is_logic else "The instruction": item.instruction}
        facts = problem | ({"The reference": item.reference_text} if not item.references else {})
        axis = _ANSWER if is_logic else _LIKENESS if item.references else REASONING
        is_pair = bool(item.references) or (not is_logic and item.fields["is_judged_beside_before"])
        asked: list[JudgeCall] = []
        if not item.fields["is_consistency_free"]:
            kept = {"consistency": _STYLE if is_logic else CONSISTENCY}
            asked.append(call("consistency", pair, facts if is_logic else problem, kept))
        shown = pair if is_pair else pair[1:]
        wordless = bool(item.references) and item.fields["is_judged_without_instruction"]
        asked.append(call("reasoning", shown, {} if wordless else facts, {"reasoning": axis}))
        if _is_asked_again(item):
            again = {"reasoning_as_published": axis}
            asked.append(call("reasoning_as_published", shown, {}, again))
        if not is_logic:
            asked.append(call("plausibility", pair[1:], {}, {"plausibility": PLAUSIBILITY}))
        return asked

    def parse(self, call: str, reply: str) -> dict[str, int] | None:
        """As `Benchmark.parse`; of a reply with several final scores the script makes nothing."""
        numbers = final_scores(reply)
        return {call: numbers[0]} if len(numbers) == 1 else None

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """Per cent: score, accuracy and each axis, under both names."""
        is_logic = item.group == "logical_reasoning"
        names = [
            *([] if item.fields["is_consistency_free"] else ["consistency"]),
            "reasoning",
            *([] if is_logic else ["plausibility"]),
        ]
        judged = {name: _on_five(axes, name, is_logic) for name in names}
        script = dict(judged)
        if _is_asked_again(item):
            script["reasoning"] = _on_five(axes, "reasoning_as_published", is_logic)
        if None in script.values():
            script = dict.fromkeys(names)
        accuracy = None if axes is None else _accuracy(script) or 0.0
        return both(
            {
                "accuracy": accuracy,
                "score": percent(_score(script, item.fields["consistency_free_as_published"])),
                **{name: percent(value) for name, value in script.items()},
            },
            dict.fromkeys(("accuracy", "score", *names), 0.0)
            if axes is None
            else {
                "accuracy": _accuracy(judged),
                "score": percent(_score(judged, item.fields["is_consistency_free"])),
                **{name: percent(value) for name, value in judged.items()},
            },
        )

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """The whole, the four categories, the subtasks."""
        figures = means(scored, lambda each: single(self.score(each.item, each.axes)), _groups)
        return without_stopped(figures, scored)


def final_scores(reply: str) -> list[int]:
    """The numbers after the first "Final Score" of a reply that has some."""
    for match in _FINAL.finditer(reply):
        numbers = [int(number) for number in re.findall(r"\d+", match[1])]
        if numbers:
            return numbers
    return []


def percent(value: float | None) -> float | None:
    """Of a mean of axes from 1 to 5."""
    return None if value is None else 25 * (value - 1)


def _is_asked_again(item: Item) -> bool:
    """Whether the published script asks about a logic item in another way than is meant."""
    return bool(
        item.references
        and item.fields["without_instruction_as_published"]
        and not item.fields["is_judged_without_instruction"]
    )


def _on_five(axes: Axes | None, name: str, is_logic: bool) -> float | None:
    value = None if axes is None else axes.get(name)
    return 4 * min(value, 1) + 1 if is_logic and value is not None else value


def _score(judged: dict[str, float | None], is_consistency_free: bool) -> float | None:
    if None in judged.values():
        return None
    values = {name: value for name, value in judged.items() if value is not None}
    kept, right = values.get("consistency", 0.0), values["reasoning"]
    if "plausibility" not in values:
        score = 0.3 * kept + 0.7 * right
    elif is_consistency_free:
        score = 0.8 * right + 0.2 * values["plausibility"]
    else:
        score = 0.3 * kept + 0.5 * right + 0.2 * values["plausibility"]
    return max(1.0, 0.5 * score) if right == 1 else score


def _accuracy(judged: dict[str, float | None]) -> float | None:
    if None in judged.values():
        return None
    return 100.0 * all(value == 5 for value in judged.values())


def _groups(item: Item) -> list[str]:
    subtask = item.fields["subtask"]
    return ["", item.group, *([f"{item.group}: {subtask}"] if subtask else [])]

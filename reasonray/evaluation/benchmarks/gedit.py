"""GEdit-Bench: what users really ask for, in English and Chinese, eleven tasks.

https://github.com/stepfun-ai/Step1X-Edit (GEdit-Bench), arXiv 2504.17761. VIEScore for edits
(arXiv 2312.14867): two calls of a judge with two figures from 0 to 10 each, of which the lower
counts; the edited picture is resized to the source's size first.

    SC = min(success, overediting)   PQ = min(naturalness, artifacts)   O = sqrt(SC PQ)

A table has the mean of each task and the plain mean of the eleven tasks, by language, over all
items and over those that every editor of the paper answered (`Intersection_exist`).

Faults of the published script, in the figures "as published": a reply that holds no JSON twice
gets a random whole number from 0 to 10 in its place (here drawn from the item's id, so that it is
the same in each run); an item whose picture is missing leaves the means; a task without any
picture leaves no mean of the eleven. Its analysis asks for the language zh, which the data call cn.
"""

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import PIL.Image

from reasonray.evaluation.benchmarks.entries import Entry, unique
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.benchmarks.rubric import AFTER, BEFORE, Axis, call
from reasonray.evaluation.benchmarks.table import both, mean, means, single
from reasonray.evaluation.items import (
    AS_PUBLISHED,
    Axes,
    Benchmark,
    Figure,
    Item,
    JudgeCall,
    Scored,
    Scores,
)

TASKS = (
    *("background_change", "color_alter", "material_alter", "motion_change", "ps_human"),
    *("style_change", "subject-add", "subject-remove", "subject-replace", "text_change"),
    "tone_transfer",
)

_LANGUAGES = {"en": "en", "cn": "zh"}

_COLUMNS = dict.fromkeys(
    ("task_type", "key", "instruction", "instruction_language", "Intersection_exist"), False
) | {"input_image": True, "input_image_raw": True}

_CALLS = {
    "SC": {
        "success": Axis(
            "How well does the edited picture do what the instruction says?",
            {10: "wholly", 5: "half of it, or roughly", 0: "not at all"},
            low=0,
            high=10,
        ),
        "overediting": Axis(
            "How little was changed that need not be?",
            {10: "only what the edit needs", 5: "several other things"}
            | {0: "it is another picture"},
            low=0,
            high=10,
        ),
    },
    "PQ": {
        "naturalness": Axis(
            "Does the picture look natural: light, shadows, sizes, distances?",
            {10: "like a photograph of something real", 5: "somewhat wrong", 0: "not at all"},
            low=0,
            high=10,
        ),
        "artifacts": Axis(
            "How free is it of distortions, seams, blur, odd limbs, watermarks?",
            {10: "wholly free", 5: "some can be seen", 0: "full of them"},
            low=0,
            high=10,
        ),
    },
}


class GEditBench(Benchmark):
    """The hub's Parquet files, split train."""

    name = "gedit"
    rubric = "gedit 1"
    yardstick = "judge"
    num_published = 1212

    def __init__(self, files: Files) -> None:
        self._files = files

    def items(self) -> Sequence[Item]:
        rows = self._files.rows("train", _COLUMNS)
        return unique([_item(entry) for entry in rows], self._files.folder.address)

    def output_name(self, item: Item) -> str:
        """As `Benchmark.output_name`; their scripts want the source beside it, as _SRCIMG.png."""
        return f"fullset/{item.id}.png"

    def calls(self, item: Item, edited: PIL.Image.Image) -> list[JudgeCall]:
        source = item.fields["source"].open()
        after = (AFTER, edited.resize(source.size))
        task = {"The instruction": item.instruction}
        return [
            call("SC", [(BEFORE, source), after], task, _CALLS["SC"]),
            call("PQ", [after], {}, _CALLS["PQ"]),
        ]

    def parse(self, call: str, reply: str) -> dict[str, int] | None:
        """As `Benchmark.parse`: JSON with a list `score`, else a bare list or number.

        Their repair of JSON without quotes is left out.
        """
        scores = _listed(reply)
        names = list(_CALLS[call])
        if len(scores) == 1:
            scores *= len(names)  # of what is alone the lower is taken as well
        return dict(zip(names, scores, strict=True)) if len(scores) == len(names) else None

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """SC, PQ and O, 0 to 10, under both names."""
        if axes is None:
            return both(dict.fromkeys(("SC", "PQ", "O")), dict.fromkeys(("SC", "PQ", "O"), 0.0))
        judged = {name: _lower(axes, name) for name in _CALLS}
        script = {
            name: _guess(item, name) if value is None else value for name, value in judged.items()
        }
        return both(_with_overall(script), _with_overall(judged))

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """By language, all and intersection: the mean of the tasks, then each task."""
        parts = means(scored, lambda each: single(self.score(each.item, each.axes)), _groups)
        figures: list[Figure] = []
        for whole in dict.fromkeys(each.group.partition(": ")[0] for each in parts):
            own = [each for each in parts if each.group.partition(": ")[0] == whole]
            figures += _mean_of_tasks(own, whole) + own
        return figures


def _item(entry: Entry) -> Item:
    task = entry.one_of("task_type", TASKS)
    language = entry.one_of("instruction_language", tuple(_LANGUAGES))
    if not isinstance(entry.values["Intersection_exist"], bool):
        raise entry.wrong("Intersection_exist", "true or false")
    return Item(
        id=f"{task}/{language}/{entry.text('key')}",
        group=task,
        language=_LANGUAGES[language],
        pictures=(entry.cell("input_image_raw"),),
        instruction=entry.text("instruction"),
        fields={
            # Their editor is given the raw picture, their judge the other, of standard size.
            "source": entry.cell("input_image"),
            "is_in_intersection": entry.values["Intersection_exist"],
        },
    )


def _lower(axes: Axes, name: str) -> float | None:
    values = [axes[axis] for axis in _CALLS[name] if axis in axes]
    return min(values) if len(values) == len(_CALLS[name]) else None


def _guess(item: Item, name: str) -> float:
    """What the published script makes of a reply that it cannot read."""
    return random.Random(f"{item.id} {name}").randint(0, 10)


def _with_overall(values: Mapping[str, float | None]) -> dict[str, float | None]:
    consistency, quality = values["SC"], values["PQ"]
    overall = None if consistency is None or quality is None else math.sqrt(consistency * quality)
    return {**values, "O": overall}


def _groups(item: Item) -> list[str]:
    wholes = [item.language]
    if item.fields["is_in_intersection"]:
        wholes.append(f"{item.language}, intersection")
    return [f"{whole}: {item.group}" for whole in wholes]


def _mean_of_tasks(parts: Sequence[Figure], whole: str) -> list[Figure]:
    """The plain mean of the tasks' figures, for each measure."""
    rows: list[Figure] = []
    for measure in dict.fromkeys(each.measure for each in parts):
        tasks = [each for each in parts if each.measure == measure]
        values = [each.value for each in tasks if each.value is not None]
        stops = measure.endswith(AS_PUBLISHED) and len(values) < len(TASKS)
        rows.append(
            replace(
                tasks[0],
                group=whole,
                value=None if stops else mean(values),
                num_items=sum(each.num_items for each in tasks),
                num_missing=sum(each.num_missing for each in tasks),
                num_unjudged=sum(each.num_unjudged for each in tasks),
            )
        )
    return rows


def _listed(reply: str) -> list[int]:
    start, end = reply.find("{"), reply.rfind("}")
    if start >= 0 and end > start:
        try:
            scores = json.loads(reply[start : end + 1].replace("\n", ""))["score"]
        except (ValueError, KeyError, TypeError):
            return []
        scores = scores if isinstance(scores, list) else [scores]
        return scores if all(type(score) is int for score in scores) else []
    bare = reply[reply.find("[") : reply.rfind("]") + 1]
    if re.fullmatch(r"\[\d+, ?\d+\]", bare):
        return [int(number) for number in re.findall(r"\d+", bare)]
    text = reply.strip()
    return [int(text)] if text.isdecimal() and int(text) <= 10 else []

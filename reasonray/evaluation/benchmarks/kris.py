"""KRIS-Bench: edits that need knowledge; twenty categories of seven kinds of three sorts.

https://github.com/mercurystraw/Kris_Bench (five scripts), arXiv 2505.16707; the aggregation, which
is not there, from https://github.com/appletea233/EditThinker (eval/kris/summarize.py, ByteDance's).
Axes from 1 to 5: consistency (VC), instruction (IF), quality (VQ), and knowledge (KP) in the
categories that have an explanation, asked for together with IF.

    each figure in per cent: 25 (axis - 1); AVG = the mean of all figures of a kind, a sort or the
    whole: an item with four figures counts more than one with three

Faults of the published scripts on the published files, in the figures "as published": they read
the keys `instruction` and `explain` where the files have `ins_en` and `explain_en`, so that the
judge is told nothing (it is asked once more so); they look for four categories by other names and
pass over them. A picture that is missing, and a reply that holds no figure, leave the means; any
digit from 1 to 5 in prose is taken for the figure (`parse`). That the explanation is never shown
for anomaly_correction, which their prompts mean to, holds for the repair by EditThinker as well.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import PIL.Image

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks.entries import Entry, entries, unique
from reasonray.evaluation.benchmarks.kris_judge import asked, published_axes
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.benchmarks.table import intended, mean, means, published
from reasonray.evaluation.items import Axes, Benchmark, Figure, Item, JudgeCall, Scored, Scores

SORTS = {
    "Factual Knowledge": ("Attribute Perception", "Spatial Perception", "Temporal Prediction"),
    "Conceptual Knowledge": ("Social Science", "Natural Science"),
    "Procedural Knowledge": ("Logical Reasoning", "Instruction Decomposition"),
}
KINDS = {
    "Attribute Perception": (
        *("count_change", "color_change", "size_adjustment", "part_completion"),
        "anomaly_correction",
    ),
    "Spatial Perception": ("viewpoint_change", "position_movement"),
    "Temporal Prediction": ("temporal_prediction",),
    "Social Science": ("humanities", "practical_knowledge"),
    "Natural Science": (
        *("biology", "chemistry", "geography", "medicine", "mathematics", "physics"),
    ),
    "Logical Reasoning": ("abstract_reasoning", "rule-based_reasoning"),
    "Instruction Decomposition": ("multi-element_composition", "multi-instruction_execution"),
}
CATEGORIES = {category: kind for kind, categories in KINDS.items() for category in categories}

_WITH_KNOWLEDGE = ("Social Science", "Natural Science", "Logical Reasoning")

_PASSED_OVER = ("count_change", "viewpoint_change", "practical_knowledge", "rule-based_reasoning")
"""Not among the names that the published scripts look for."""

_TABLE = {"consistency": "VC", "quality": "VQ", "instruction": "IF", "knowledge": "KP"}
"""Axes, and what tables call them."""


class KrisBench(Benchmark):
    """A folder for each category, with its `annotation.json`."""

    name = "kris"
    rubric = "kris 1"
    yardstick = "judge"
    num_published = 1267

    def __init__(self, files: Files) -> None:
        self._files = files

    def items(self) -> Sequence[Item]:
        """As `Benchmark.items`; categories whose folder is not there have none."""
        items: list[Item] = []
        for path, _ in self._files.named("annotation.json"):
            category = path.split("/")[-2] if "/" in path else ""
            if category not in CATEGORIES:
                raise UserError(
                    f"{path}: its folder is no category; expected one of {', '.join(CATEGORIES)}"
                )
            content, uri = self._files.read_json(path)
            if not isinstance(content, dict):
                raise UserError(f"{uri}: expected an object of items by their ids")
            pairs = zip(content, entries(content, uri), strict=True)
            items += [self._item(category, key, entry) for key, entry in pairs]
        return unique(items, self._files.folder.address)

    def _item(self, category: str, key: str, entry: Entry) -> Item:
        names = entry.texts("ori_img")
        truth = entry.text("gt_img", "")
        pictures, references = (
            tuple(self._files.picture(entry, f"{category}/{name}") for name in some)
            for some in (names, [truth] if truth else [])
        )
        return Item(
            id=f"{category}/{key}",
            group=category,
            language="en",
            pictures=pictures,
            instruction=entry.text("ins_en"),
            references=references,
            reference_text=entry.text("explain_en", ""),
            fields={"frames": _frames(names)},
        )

    def output_name(self, item: Item) -> str:
        """As `Benchmark.output_name`; EditThinker's scripts look for .png instead."""
        return f"{item.id}.jpg"

    def calls(self, item: Item, edited: PIL.Image.Image) -> list[JudgeCall]:
        """As `Benchmark.calls`: three, and up to two as the published scripts ask them.

        Raises:
            RowError: also `missing_image`, of a change of viewpoint without its truth.
        """
        return asked(
            item,
            edited,
            has_knowledge=_has_knowledge(item),
            also_as_published=item.group not in _PASSED_OVER,
        )

    def parse(self, call: str, reply: str) -> dict[str, int] | None:
        """As `Benchmark.parse`: JSON, else a named figure, else any digit of the prose."""
        return published_axes(call, reply)

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """Per cent: each figure and their mean, under both names."""
        scores: dict[str, float | None] = {}
        for named, judged in _judged(item, axes).items():
            scores |= {named(_TABLE[name]): value for name, value in judged.items()}
            scores[named("AVG")] = mean(value for value in judged.values() if value is not None)
        return scores

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """The whole, sorts, kinds, categories."""

        def values(each: Scored) -> dict[str, Sequence[float | None]]:
            pooled: dict[str, Sequence[float | None]] = {}
            for named, judged in _judged(each.item, each.axes).items():
                pooled |= {named(_TABLE[name]): (value,) for name, value in judged.items()}
                pooled[named("AVG")] = tuple(judged.values())
            return pooled

        return means(scored, values, _groups)


def _frames(names: Sequence[str]) -> tuple[tuple[int, ...], int]:
    """The numbers of the given frames, by their names (`7-2.png`), and of the one to predict.

    Of names without numbers they are counted, and the last is predicted.
    """
    matches = [re.search(r"\d+-(\d+)", name) for name in names]
    numbers = tuple(int(match[1]) for match in matches if match)
    if len(numbers) < len(names):
        numbers = tuple(range(1, len(names) + 1))
    absent = sorted({1, 2, 3, 4} - set(numbers))
    return numbers, absent[0] if len(absent) == 1 else max(numbers) + 1


def _judged(item: Item, axes: Axes | None) -> Mapping[Any, dict[str, float | None]]:
    """The figures of an item by how they are named: as published, as intended."""
    names = [name for name in _TABLE if name != "knowledge" or _has_knowledge(item)]
    if axes is None:
        judged: dict[str, float | None] = dict.fromkeys(names, 0.0)
        script: dict[str, float | None] = dict.fromkeys(names)
    else:
        judged = {name: _percent(axes.get(name)) for name in names}
        script = {
            name: _percent(axes.get(name if name == "quality" else f"{name}_as_published"))
            for name in names
        }
    return ({} if item.group in _PASSED_OVER else {published: script}) | {intended: judged}


def _has_knowledge(item: Item) -> bool:
    return CATEGORIES[item.group] in _WITH_KNOWLEDGE


def _percent(value: float | None) -> float | None:
    return None if value is None else 25 * (value - 1)


def _groups(item: Item) -> Iterable[str]:
    kind = CATEGORIES[item.group]
    sort = next(sort for sort, kinds in SORTS.items() if kind in kinds)
    return ("", sort, kind, f"{kind}: {item.group}")

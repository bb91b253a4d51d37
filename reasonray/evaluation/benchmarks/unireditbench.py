"""UniREditBench: edits that need reasoning, of the real world and of games with rules.

https://github.com/Maplebb/UniREditBench (eval/gpt_eval_uniredit.py), arXiv 2511.01295. The three
questions of RISEBench; reasoning is judged beside the picture before and a reference picture.

    score = .3 consistency + .5 reasoning + .2 plausibility, in per cent 25 (score - 1)
    accuracy = share of the items of which all three are 5

Fault of the published script, in the figures "as published": an item whose picture is missing, or
of which a reply does not parse, leaves every mean. An editor that often fails scores better.
"""

from collections.abc import Sequence

import PIL.Image

from reasonray.evaluation.benchmarks.entries import Entry, entries, unique
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.benchmarks.risebench import (
    CONSISTENCY,
    PLAUSIBILITY,
    REASONING,
    final_scores,
    percent,
)
from reasonray.evaluation.benchmarks.rubric import AFTER, BEFORE, call
from reasonray.evaluation.benchmarks.table import both, means, single
from reasonray.evaluation.items import Axes, Benchmark, Figure, Item, JudgeCall, Scored, Scores

_WEIGHTS = {"consistency": 0.3, "reasoning": 0.5, "plausibility": 0.2}

_EXAMPLE = "a reference picture, which shows the effect that is meant"


class UniREditBench(Benchmark):
    """`data.json` and the two folders of pictures, unpacked or in their archives."""

    name = "unireditbench"
    rubric = "unireditbench 1"
    yardstick = "judge"
    num_published = 2700

    def __init__(self, files: Files) -> None:
        self._files = files

    def items(self) -> Sequence[Item]:
        content, uri = self._files.read_json("data.json")
        return unique([self._item(entry) for entry in entries(content, uri)], uri)

    def _item(self, entry: Entry) -> Item:
        name, number = entry.text("name"), entry.text("idx")
        before, after = entry.text("original_image_path"), entry.text("reference_image_path")
        return Item(
            id=f"{name}/{number}",
            group=name,
            language="en",
            pictures=(self._files.picture(entry, before),),
            instruction=entry.text("instruction"),
            references=(self._files.picture(entry, after),),
            reference_text=entry.text("reference_effect", ""),
            rules=entry.text("rules", ""),
        )

    def output_name(self, item: Item) -> str:
        return f"{item.id}.png"

    def calls(self, item: Item, edited: PIL.Image.Image) -> list[JudgeCall]:
        before, after = (BEFORE, item.pictures[0].open()), (AFTER, edited)
        truth = (_EXAMPLE, item.references[0].open())
        task = {"The instruction": item.full_instruction}
        effect = task | {"The reference": item.reference_text}
        return [
            call("consistency", [before, after], task, {"consistency": CONSISTENCY}),
            call("reasoning", [before, truth, after], effect, {"reasoning": REASONING}),
            call("plausibility", [after], {}, {"plausibility": PLAUSIBILITY}),
        ]

    def parse(self, call: str, reply: str) -> dict[str, int] | None:
        """As `Benchmark.parse`; of several final scores the first counts."""
        numbers = final_scores(reply)
        return {call: numbers[0]} if numbers else None

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """Per cent: score, accuracy and each axis, under both names."""
        judged = {name: None if axes is None else axes.get(name) for name in _WEIGHTS}
        values = [value for value in judged.values() if value is not None]
        is_whole = len(values) == len(_WEIGHTS)
        whole: dict[str, float | None] = {
            "accuracy": 100.0 * all(value == 5 for value in values) if is_whole else None,
            "score": percent(
                sum(weight * value for weight, value in zip(_WEIGHTS.values(), values, strict=True))
            )
            if is_whole
            else None,
        }
        own = {name: percent(value) for name, value in judged.items()}
        return both(
            whole | (own if is_whole else dict.fromkeys(own)),
            dict.fromkeys((*whole, *own), 0.0) if axes is None else whole | own,
        )

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """The whole, then by name of the task."""
        return means(
            scored,
            lambda each: single(self.score(each.item, each.axes)),
            lambda item: ("", item.group),
        )

"""ImgEdit-Bench, its basic suite: nine types of edits of single objects and whole pictures.

https://github.com/PKU-YuanGroup/ImgEdit (Benchmark/Basic), arXiv 2505.20275. One call of a judge
with three axes of the type from 1 to 5; an item's score is their mean, a table has the mean of each
type and of all items.

Its rubrics say that the second and the third axis must not be higher than the first; the script
does not see to it. The figures "as intended" do: an edit that was not made is not saved by the
quality of what it left alone. Faults of the published script, in the figures "as published": lines
of the reply that are not exactly "Name: 4" are passed over, and the mean is of the others
(`parse`); items and types are rounded to two decimals; a picture that is missing, or a server's
error, stops its second step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import PIL.Image

from reasonray.evaluation.benchmarks.entries import Entry, entries, unique
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.benchmarks.rubric import AFTER, BEFORE, Axis, call
from reasonray.evaluation.benchmarks.table import both, mean, means, single, without_stopped
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

_FOLLOWED = {5: "exactly that", 4: "that, with a small inaccuracy", 3: "the main thing, part wrong"}
_FOLLOWED |= {2: "little of it, or other things as well", 1: "nothing of it"}
_SEAMLESS = {5: "no trace of editing can be found", 4: "traces only when magnified"}
_SEAMLESS |= {3: "traces on a closer look", 2: "clear edges or another tone", 1: "torn or broken"}
_SOUND = {5: "wholly", 4: "small flaws", 3: "clear flaws that can be borne", 2: "strong flaws"}
_SOUND |= {1: "impossible or ruined"}

_SEAMS = Axis("Does what was edited blend in: edges, texture, sharpness, colours?", _SEAMLESS)
_PHYSICS = Axis(
    "Are light, shadows, perspective and touching right, and are all details kept that the edit "
    "does not concern?",
    _SOUND,
)


def _followed(question: str) -> Axis:
    return Axis(question, _FOLLOWED)


TYPES: Mapping[str, Mapping[str, Axis]] = {
    "add": {
        "prompt_compliance": _followed(
            "Was just what is asked for added, in its kind, number, place and looks?"
        ),
        "visual_naturalness": _SEAMS,
        "physical_coherence": _PHYSICS,
    },
    "remove": {
        "prompt_compliance": _followed("Was just what is named taken away, wholly?"),
        "visual_naturalness": Axis("Is the gap filled so that nobody would look there?", _SEAMLESS),
        "physical_integrity": _PHYSICS,
    },
    "replace": {
        "prompt_compliance": _followed("Does the new thing stand for the old, and only there?"),
        "visual_naturalness": _SEAMS,
        "physical_integrity": _PHYSICS,
    },
    "adjust": {
        "prompt_compliance": _followed(
            "Was the named property of the named thing changed as asked, and not its shape?"
        ),
        "visual_seamlessness": _SEAMS,
        "physical_fidelity": _PHYSICS,
    },
    "background": {
        "instruction_compliance": _followed(
            "Is the background the one asked for, with what stands before it untouched?"
        ),
        "visual_seamlessness": _SEAMS,
        "physical_consistency": _PHYSICS,
    },
    "style": {
        "style_fidelity": _followed("Is the whole picture in the style asked for?"),
        "content_preservation": Axis(
            "Are all things and their arrangement kept?",
            {5: "all", 4: "but for slight bends", 3: "some warped or lost", 2: "most warped"}
            | {1: "the scene is lost"},
        ),
        "rendering_quality": Axis("Is it cleanly done: strokes, texture, no noise?", _SOUND),
    },
    "action": {
        "action_fidelity": _followed("Is the pose, action or expression the one asked for?"),
        "identity_preservation": Axis(
            "Is it the same person or animal: face, hair, clothes?",
            {5: "the same in all", 4: "surely the same", 3: "mostly", 2: "hardly", 1: "another"},
        ),
        "visual_coherence": Axis("Are body, light and edges sound and free of artifacts?", _SOUND),
    },
    "extract": {
        "object_identity": _followed("Is just the thing asked for shown, whole and the same one?"),
        "mask_precision": Axis(
            "Is it cut out cleanly, on a ground of pure white?",
            {5: "flawlessly", 4: "flaws only when magnified", 3: "soft or fringed edges"}
            | {2: "patches of the old ground", 1: "much of the old ground, or holes"},
        ),
        "visual_quality": Axis("Is it sharp, in true colours, without distortion?", _SOUND),
    },
    "compose": {
        "instruction_compliance": _followed(
            "Was each of the operations done, each on its own thing?"
        ),
        "visual_naturalness": _SEAMS,
        "physical_consistency": _PHYSICS,
    },
}
"""Axes by the type of the edit, the one first that bounds the others."""

_REMARK = "No axis may be higher than the first."


class ImgEditBench(Benchmark):
    """`basic_edit.json` (the hub's archive calls it singleturn.json) and the pictures."""

    name = "imgedit"
    rubric = "imgedit 1"
    yardstick = "judge"
    num_published = 737

    def __init__(self, files: Files) -> None:
        self._files = files

    def items(self) -> Sequence[Item]:
        content, uri = self._files.read_json("basic_edit.json", "singleturn.json")
        pairs = zip(content, entries(content, uri), strict=True)
        return unique([self._item(str(key), entry) for key, entry in pairs], uri)

    def _item(self, key: str, entry: Entry) -> Item:
        return Item(
            id=key,
            group=entry.one_of("edit_type", tuple(TYPES)),
            language="en",
            pictures=(self._files.picture(entry, entry.text("id")),),
            instruction=entry.text("prompt"),
        )

    def output_name(self, item: Item) -> str:
        return f"{item.id}.png"

    def calls(self, item: Item, edited: PIL.Image.Image) -> list[JudgeCall]:
        pair = [(BEFORE, item.pictures[0].open()), (AFTER, edited)]
        facts = {"The instruction": item.instruction}
        return [call(item.group, pair, facts, TYPES[item.group], _REMARK)]

    def parse(self, call: str, reply: str) -> dict[str, int] | None:
        """As `Benchmark.parse`: lines "Name: 4", named by the type's axes in their order."""
        lines = [line.strip().split(": ") for line in reply.splitlines()]
        numbers = [int(parts[1]) for parts in lines if len(parts) == 2 and parts[1].isdigit()]
        names = TYPES[call]
        if not 0 < len(numbers) <= len(names):
            return None
        return dict(zip(names, numbers, strict=False))

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """The score from 1 to 5, under both names."""
        if axes is None:
            return both({"score": None}, {"score": 1.0})
        values = [axes[name] for name in TYPES[item.group] if name in axes]
        script = mean(values)
        is_whole = len(values) == len(TYPES[item.group])
        return both(
            {"score": None if script is None else round(script, 2)},
            {"score": mean(min(value, values[0]) for value in values) if is_whole else None},
        )

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """All items, then each type."""
        figures = means(
            scored,
            lambda each: single(self.score(each.item, each.axes)),
            lambda item: ("", item.group),
        )
        return [_rounded(each) for each in without_stopped(figures, scored)]


def _rounded(figure: Figure) -> Figure:
    if figure.value is None or not figure.measure.endswith(AS_PUBLISHED):
        return figure
    return replace(figure, value=round(figure.value, 2))

"""Emu Edit's test set: seven tasks on MagicBrush's photos, without true pictures.

https://huggingface.co/datasets/facebook/emu_edit_test_set (CC BY-NC 4.0), arXiv 2311.10089. Five
metrics beside the picture before and both captions, means over all items and by task; the split
test has 3,589, the other, validation, 2,022. (`facebook/emu_edit_test_set_generations` has the two
names swapped.) Where both captions are the same there is no direction from one to the other: such
an item has no CLIP-dir. A picture that is missing has no metrics and is counted.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from reasonray.evaluation.benchmarks.entries import unique
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.benchmarks.table import means, single
from reasonray.evaluation.items import (
    INPUT_METRICS,
    Axes,
    Benchmark,
    Figure,
    Item,
    Scored,
    Scores,
)

TASKS = ("background", "global", "style", "remove", "add", "local", "texture")

_COLUMNS = dict.fromkeys(
    ("instruction", "task", "idx", "input_caption", "output_caption"), False
) | {"image": True}


class EmuEdit(Benchmark):
    """The hub's Parquet files, split test."""

    name = "emu_edit"
    yardstick = "input"
    num_published = 3589

    def __init__(self, files: Files) -> None:
        self._files = files

    def items(self) -> Sequence[Item]:
        """As `Benchmark.items`; of several with one `idx` the later get its count added."""
        return unique(list(self._rows()), self._files.folder.address)

    def _rows(self) -> Iterator[Item]:
        counts: Counter[str] = Counter()
        for row in self._files.rows("test", _COLUMNS):
            index = row.text("idx")
            counts[index] += 1
            yield Item(
                id=index if counts[index] == 1 else f"{index}-{counts[index]}",
                group=row.one_of("task", TASKS),
                language="en",
                pictures=(row.cell("image"),),
                instruction=row.text("instruction"),
                reference_text=row.text("output_caption", ""),
                input_caption=row.text("input_caption", ""),
            )

    def output_name(self, item: Item) -> str:
        """As `Benchmark.output_name`; no script is published, so by id."""
        return f"{item.id}.png"

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """The metrics as they are."""
        lacking: set[str] = set()
        if not item.reference_text:
            lacking |= {"CLIP-dir", "CLIP-out"}
        if not item.input_caption or item.input_caption == item.reference_text:
            lacking.add("CLIP-dir")
        return {
            name: None if axes is None else axes.get(name)
            for name in INPUT_METRICS
            if name not in lacking
        }

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """All items, then each task."""
        return means(
            scored,
            lambda each: single(self.score(each.item, each.axes)),
            lambda item: ("", item.group),
        )

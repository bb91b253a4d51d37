"""One chunk of an editor's pictures by the metrics of its benchmark."""

from collections.abc import Sequence
from typing import Any, Protocol

import PIL.Image
import pyarrow as pa

from reasonray.core import images
from reasonray.core.errors import RowError
from reasonray.evaluation.editors import truth_of
from reasonray.evaluation.items import INPUT_METRICS, TRUTH_METRICS, Item
from reasonray.evaluation.metrics import InputMetrics, Metrics

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("axes", pa.map_(pa.string(), pa.float64())),
        ("note", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""An item's figures by axis or metric; null where the editor made no picture, without those that
cannot be had. `reason` and `detail` say why, `note` tells of a picture that had to be resized."""


class Yardstick(Protocol):
    """What gives the axes of a picture."""

    def __call__(
        self, pairs: Sequence[tuple[Item, PIL.Image.Image]]
    ) -> list[dict[str, float] | RowError]:
        """Of each pair of an item and its edited picture, or why there are none."""
        ...


class ByTruth:
    """The five metrics beside the first reference; without a caption there is no CLIP-T."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(
        self, pairs: Sequence[tuple[Item, PIL.Image.Image]]
    ) -> list[dict[str, float] | RowError]:
        """See `Yardstick`."""
        return _measured(pairs, truth_of, self._measure)

    def _measure(
        self,
        outputs: list[PIL.Image.Image],
        truths: list[PIL.Image.Image],
        items: list[Item],
    ) -> list[dict[str, float]]:
        columns = self._metrics(outputs, truths, [item.reference_text for item in items])
        rows = [
            {name: columns[name][number] for name in TRUTH_METRICS} for number in range(len(items))
        ]
        for row, item in zip(rows, items, strict=True):
            if not item.reference_text:
                del row["CLIP-T"]
        return rows


class ByInput:
    """Emu Edit's metrics beside the picture before."""

    def __init__(self, metrics: InputMetrics) -> None:
        self._metrics = metrics

    def __call__(
        self, pairs: Sequence[tuple[Item, PIL.Image.Image]]
    ) -> list[dict[str, float] | RowError]:
        """See `Yardstick`."""
        return _measured(pairs, lambda item: item.pictures[0].open(), self._measure)

    def _measure(
        self,
        outputs: list[PIL.Image.Image],
        inputs: list[PIL.Image.Image],
        items: list[Item],
    ) -> list[dict[str, float]]:
        after, before = (
            [getattr(i, n) for i in items] for n in ("reference_text", "input_caption")
        )
        columns = self._metrics(outputs, inputs, after, before)
        return [
            {name: columns[name][number] for name in INPUT_METRICS} for number in range(len(items))
        ]


def _measured(
    pairs: Sequence[tuple[Item, PIL.Image.Image]], other_of: Any, measure: Any
) -> list[dict[str, float] | RowError]:
    others: list[PIL.Image.Image | RowError] = []
    for item, _ in pairs:
        try:
            others.append(other_of(item))
        except RowError as error:
            others.append(error)
    there = [number for number, other in enumerate(others) if not isinstance(other, RowError)]
    figures: list[Any] = list(others)
    if there:
        rows = measure(
            [pairs[i][1] for i in there], [others[i] for i in there], [pairs[i][0] for i in there]
        )
        for number, row in zip(there, rows, strict=True):
            figures[number] = row
    return figures


def measure(yardstick: Yardstick, items: Sequence[Item], edits: pa.Table) -> pa.Table:
    """The pictures' figures.

    Args:
        yardstick: of the benchmark.
        items: of the chunk.
        edits: `editing.SCHEMA`, the same items in the same order.

    Returns:
        `SCHEMA`, a row for each item.
    """
    rows: list[dict[str, Any]] = []
    pairs: list[tuple[Item, PIL.Image.Image]] = []
    owners: list[dict[str, Any]] = []
    for item, edit in zip(items, edits.to_pylist(), strict=True):
        rows.append({"id": item.id, "reason": edit["reason"], "detail": edit["detail"]})
        if edit["picture"] is not None:
            pairs.append((item, images.decode(edit["picture"])))
            owners.append(rows[-1])
    for row, (item, picture), figures in zip(owners, pairs, yardstick(pairs), strict=True):
        row["note"] = _note(item, picture)
        if isinstance(figures, RowError):
            row |= {"axes": [], "reason": figures.reason, "detail": figures.detail}
        else:
            row["axes"] = list(figures.items())
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _note(item: Item, picture: PIL.Image.Image) -> str | None:
    try:
        width, height = item.pictures[0].open().size
    except RowError:
        return None  # its editor has managed without
    if picture.size == (width, height):
        return None
    return f"of {picture.width} x {picture.height}, the picture before of {width} x {height}"

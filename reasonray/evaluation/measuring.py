"""One chunk of an editor's pictures by the five metrics, beside the truths."""

from collections.abc import Sequence
from typing import Any

import PIL.Image
import pyarrow as pa

from reasonray.core import images
from reasonray.core.errors import RowError
from reasonray.evaluation.editors import truth_of
from reasonray.evaluation.items import Item
from reasonray.evaluation.metrics import METRICS, Metrics

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        *((name, pa.float64()) for name in METRICS),
        ("note", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""An item's metrics, or why there are none; `note` tells of a picture that had to be resized."""


def measure(metrics: Metrics, items: Sequence[Item], edits: pa.Table) -> pa.Table:
    """The pictures' metrics.

    Args:
        metrics: loaded.
        items: of the chunk.
        edits: `editing.SCHEMA`, the same items in the same order.

    Returns:
        `SCHEMA`, a row for each item.
    """
    rows: list[dict[str, Any]] = []
    measured: list[tuple[dict[str, Any], PIL.Image.Image, PIL.Image.Image, str]] = []
    for item, edit in zip(items, edits.to_pylist(), strict=True):
        row = {"id": item.id, "reason": edit["reason"], "detail": edit["detail"]}
        rows.append(row)
        if edit["picture"] is None:
            continue
        try:
            truth = truth_of(item)
        except RowError as error:
            row["reason"], row["detail"] = error.reason, error.detail
            continue
        picture = images.decode(edit["picture"])
        if picture.size != truth.size:
            width, height = picture.size
            row["note"] = f"of {width} x {height}, the truth of {truth.width} x {truth.height}"
        measured.append((row, picture, truth, item.reference_text))
    if measured:
        _, pictures, truths, captions = zip(*measured, strict=True)
        scores = metrics(pictures, truths, captions)
        for name in METRICS:
            for (row, *_), value in zip(measured, scores[name], strict=True):
                row[name] = value
    return pa.Table.from_pylist(rows, schema=SCHEMA)

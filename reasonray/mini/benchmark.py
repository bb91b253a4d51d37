"""Held-out scenes of the mini world as a benchmark whose truth is drawn: nobody has painted it."""

from collections.abc import Iterator
from typing import Any

import PIL.Image

from reasonray.core.images import encode_png
from reasonray.core.place import Place
from reasonray.evaluation.benchmarks import ours
from reasonray.mini.evaluation.edits import KINDS, edits
from reasonray.sources.mini.world import caption, render


def write_benchmark(folder: Place, count: int) -> int:
    """Write so many edits of each kind: direct, reasoning, relational, unheard.

    Args:
        folder: new or empty.
        count: of each kind; the first ones of a larger count are those of a smaller.

    Returns:
        The number of pairs.
    """
    return ours.write(folder, _pairs(count), {"made_from": "mini world, drawn"})


def _pairs(count: int) -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        for number, edit in enumerate(edits(kind, count)):
            yield {
                "id": f"mini/{kind}/{number:04}",
                "input_image": encode_png(PIL.Image.fromarray(render(edit.scene))),
                "truth": encode_png(PIL.Image.fromarray(render(edit.truth))),
                "input_caption": caption(edit.scene),
                "truth_caption": edit.target_caption,
                "selected_category": edit.scene.categories[edit.index],
                "target_category": edit.target,
                "box": [float(side) for side in edit.scene.objects[edit.index].box],
                "instructions": [{"kind": kind, "text": edit.instruction}],
                "license": "CC-BY-SA-4.0",
            }

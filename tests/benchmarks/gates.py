"""How well the stage `quality` tells good edits from bad: precision and recall on a labelled set.

python tests/benchmarks/gates.py [COUNT]

COUNT edits of each kind, all of the mini world. What they show is known because the world's
renderer drew it, every second one softened by the painter's own VAE; one kind is the painter's own.
The stage runs as in the recipe `mini`, whole and then with each of its gates alone.
"""

import collections
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reasonray.core.boxes import widened
from reasonray.core.images import decode, encode_png
from reasonray.core.recipe import load
from reasonray.core.record import Row, is_rejected
from reasonray.core.sections import QualityConfig
from reasonray.mini.classifier import Classifier
from reasonray.mini.evaluation.painter import edit
from reasonray.mini.evaluation.scenes import as_row, held_out, through
from reasonray.models.painter import Painter
from reasonray.models.pixels import to_images, to_tensor
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    Scene,
    caption,
    render,
    replaced,
    sample_scene,
)
from reasonray.stages.paint import Paint
from reasonray.stages.quality import Quality

FIRST_SEED = HELD_OUT_SEED + 700_000
"""Far from those of the demo and of the models' evaluation."""

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


class Edit:
    """An edit to be judged: two pictures, the selected object's true box, and its names.

    Attributes:
        scene: before the edit; its first object is replaced by `target`, its second stays.
        box: xyxy of what the detector is taken to have marked as the selected object.
        before, after: the pictures.
        boxes: of all objects.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng((seed, 0x6A7E))
        self.scene = sample_scene(seed, num_objects=2)
        if self.rng.integers(2):
            self.scene = replace(self.scene, objects=self.scene.objects[::-1])
        absent = sorted(set(CATEGORIES) - set(self.scene.categories))
        self.target, self.other = map(str, self.rng.choice(absent, size=2, replace=False))
        self.boxes: list[Box] = [item.box for item in self.scene.objects]
        self.before = self.after = render(self.scene)

    def showing(self, name: str) -> Pixels:
        """The scene with `name` in the first object's place."""
        return render(replaced(self.scene, 0, name))

    def without(self, index: int) -> Scene:
        """The scene with an object less."""
        items = self.scene.objects
        return replace(self.scene, objects=items[:index] + items[index + 1 :])


def replaced_whole(edit: Edit) -> None:
    """The target stands in the box."""
    edit.after = edit.showing(edit.target)


def other_shape(edit: Edit) -> None:
    """A wide object's place is taken by a narrow one, as a bench's by a lamp."""
    item = edit.scene.objects[0]
    width = int(edit.rng.integers(2 * item.side, min(5 * item.side // 2, 96) + 1))
    left = int(edit.rng.integers(96 - width + 1))
    box = (left, item.top, left + width, item.top + item.side)
    # The background is the same along each row, so that it may be stretched; alone in the picture,
    # as a neighbour would be covered.
    alone = replace(edit.scene, objects=(item,))
    edit.before = render(replace(alone, objects=()))
    edit.after = edit.before.copy()
    cut = Image.fromarray(render(alone)).crop(item.box)
    wide = cut.resize((width, item.side), Image.Resampling.LANCZOS)
    edit.before[box[1] : box[3], box[0] : box[2]] = np.asarray(wide)
    place = left + int(edit.rng.integers(width - item.side + 1))
    narrow = Image.fromarray(render(replaced(alone, 0, edit.target))).crop(item.box)
    edit.after[box[1] : box[3], place : place + item.side] = np.asarray(narrow)
    edit.scene, edit.boxes = alone, [box]


def neighbour_kept(edit: Edit) -> None:
    """The box reaches over the neighbour, which is still there afterwards."""
    replaced_whole(edit)
    edit.boxes[0] = _around(*edit.boxes)


def not_replaced(edit: Edit) -> None:
    """The same kind of thing is there again: as it was, or mirrored."""
    item = edit.scene.objects[0]
    again = replace(item, mirrored=bool(edit.rng.integers(2)))
    edit.after = render(replace(edit.scene, objects=(again, edit.scene.objects[1])))


def half_replaced(edit: Edit) -> None:
    """One half of the box, or a little more, shows the target, the other the old object."""
    left, top, right, bottom = edit.boxes[0]
    new, part = edit.showing(edit.target), edit.rng.uniform(0.4, 0.6)
    across, down = left + round(part * (right - left)), top + round(part * (bottom - top))
    halves = (
        np.s_[top:bottom, left:across],
        np.s_[top:bottom, across:right],
        np.s_[top:down, left:right],
        np.s_[down:bottom, left:right],
    )
    half = halves[edit.rng.integers(4)]
    edit.after = edit.before.copy()
    edit.after[half] = new[half]


def something_else(edit: Edit) -> None:
    """A third thing is there, which nobody asked for."""
    edit.after = edit.showing(edit.other)


def nothing_there(edit: Edit) -> None:
    """The old object is gone, and no target came."""
    edit.after = render(edit.without(0))


def neighbour_painted_over(edit: Edit) -> None:
    """The box reaches over the neighbour, and the target's surroundings replaced it."""
    edit.boxes[0] = _around(*edit.boxes)
    edit.after = render(replaced(edit.without(1), 0, edit.target))


def neighbour_changed_outside(edit: Edit) -> None:
    """The target is in its box, and the neighbour became another thing, far from it."""
    edit.after = render(replaced(replaced(edit.scene, 0, edit.target), 1, edit.other))


GOOD: tuple[Callable[[Edit], None], ...] = (replaced_whole, other_shape, neighbour_kept)
BAD: tuple[Callable[[Edit], None], ...] = (
    not_replaced,
    half_replaced,
    something_else,
    nothing_there,
    neighbour_painted_over,
    neighbour_changed_outside,
)


def painted_whole(count: int) -> list[Row]:
    """The painter's own edits, those in which an independent classifier recognises the target."""
    config = load("mini")
    rows = [edit(scene, i) for i, scene in enumerate(held_out(count))]
    rows = through(Paint(config.stages.paint, seed=0), rows, 16)
    names = Classifier().recognise(
        [np.asarray(decode(cast(Any, row["edited_image"]))) for row in rows],
        [cast(list[float], row["box"]) for row in rows],
    )
    return [row for row, name in zip(rows, names, strict=True) if name == row["target_category"]]


def labelled(count: int) -> list[tuple[str, bool, Row]]:
    """`count` edits of each kind: the kind's name, whether such an edit is good, and its row."""
    vae = Painter.from_config(load("mini").stages.paint.model).vae
    samples = [(painted_whole.__name__, True, row) for row in painted_whole(count)]
    for place, kind in enumerate((*GOOD, *BAD)):
        for i in range(count):
            edit = Edit(FIRST_SEED + place * 10_000 + i)
            kind(edit)
            row = _row(edit, f"{kind.__name__}-{i}", vae if i % 2 else None)
            samples.append((kind.__name__, kind in GOOD, row))
    return samples


def _row(edit: Edit, name: str, vae: Any) -> Row:
    """As `propose` and `paint` leave it, the detector's boxes a pixel off the true ones at most."""
    size = (edit.before.shape[1], edit.before.shape[0])
    marked = [
        [float(v) for v in np.clip(np.array(box) + edit.rng.uniform(-1, 1, 4), 0, size[0])]
        for box in edit.boxes
    ]
    row = as_row(edit.scene, 0)
    row["id"] = name
    row["input_image"] = encode_png(Image.fromarray(edit.before))
    row["categories"] = list(edit.scene.categories)
    row["detections"] = [
        {"category": category, "box": box, "score": 0.9}
        for category, box in zip(edit.scene.categories, marked, strict=True)
    ]
    row["selected_category"], row["target_category"] = edit.scene.categories[0], edit.target
    row["edited_caption"] = caption(replaced(edit.scene, 0, edit.target))
    row["detection_box"] = marked[0]
    row["scores"] = {"detection": 0.9}
    x0, y0, x1, y1 = widened(marked[0], 0.06, size)
    row["box"] = [float(v) for v in (x0, y0, x1, y1)]
    after = edit.after
    if vae is not None:
        after = after.copy()
        after[y0:y1, x0:x1] = _softened(after, vae)[y0:y1, x0:x1]
    row["edited_image"] = encode_png(Image.fromarray(after))
    return row


@torch.inference_mode()
def _softened(picture: Pixels, vae: Any) -> Pixels:
    latents = vae.encode(to_tensor([picture])).latent_dist.mode()
    [image] = to_images(vae.decode(latents).sample.float())
    return np.asarray(image)


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def judged(samples: list[tuple[str, bool, Row]], config: QualityConfig) -> list[str | None]:
    """The reason for which each is rejected, None for an accepted one."""
    rows = [cast(Row, dict(row)) for _, _, row in samples]
    done = through(Quality(config, seed=0), rows, 16)
    return [row["reason"] if is_rejected(row) else None for row in done]


def main() -> None:
    samples = labelled(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
    config = load("mini").stages.quality
    good = np.array([is_good for _, is_good, _ in samples])
    reasons = judged(samples, config)
    accepted = np.array([reason is None for reason in reasons])
    print(f"{'kind':28} {'accepted':>10}  rejected for")
    for name in dict.fromkeys(name for name, _, _ in samples):
        own = [r for r, (kind, _, _) in zip(reasons, samples, strict=True) if kind == name]
        why = collections.Counter(reason for reason in own if reason)
        listed = ", ".join(f"{reason} {count}" for reason, count in why.most_common())
        print(f"{name:28} {own.count(None):4} of {len(own):3}  {listed}")
    print(f"\n{'':28} {'precision':>10} {'recall':>8}")
    print(_figures("acceptance (of good edits)", accepted, good))
    gates = [name for name in QualityConfig.model_fields if name.startswith(("min_", "max_"))]
    for gate in gates:
        if getattr(config, gate) is None:
            continue
        alone = config.model_copy(update=dict.fromkeys(set(gates) - {gate}))
        rejected = np.array([reason is not None for reason in judged(samples, alone)])
        print(_figures(f"{gate} (of bad edits)", rejected, ~good))


def _figures(name: str, marked: NDArray[np.bool_], true: NDArray[np.bool_]) -> str:
    right = (marked & true).sum()
    precision = f"{right / marked.sum():.1%}" if marked.any() else "never"
    return f"{name:36} {precision:>10} {right / true.sum():8.1%}"


if __name__ == "__main__":
    main()

"""Edits of the mini world as editors make them, well and badly, and the scores that follow.

Each edit is constructed, so that what is right about it is known: `FAULTS` is the whole table from
what was done to the scores on the judge's axes. `draw` decides, `pictures` paints.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from reasonray.evaluation.judge import AXES
from reasonray.prompts.replies import Verdict
from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS
from reasonray.sources.mini.world import Scene, SceneObject, render, replaced, sample_scene

Picture = NDArray[np.uint8]
Repaint = Callable[[list[Picture]], list[Picture]]
"""What a painter's VAE makes of pictures: a little soft, all over."""


@dataclass(frozen=True)
class Fault:
    """What can be wrong with an edit.

    Attributes:
        part: what it concerns; an edit has at most one of each.
        following, preservation, plausibility: the most that an edit with it scores.
        weight: how often it is drawn, beside the others and `FAULTLESS`.
    """

    part: Literal["object", "others", "picture"]
    following: int
    preservation: int
    plausibility: int
    weight: float


FAULTS = {
    # Of the object that is meant:
    "unchanged": Fault("object", 1, 5, 5, 0.10),
    "wrong": Fault("object", 2, 5, 5, 0.10),  # became something else
    "elsewhere": Fault("object", 2, 3, 5, 0.08),  # another object became the target
    "gone": Fault("object", 2, 5, 5, 0.04),
    "half": Fault("object", 3, 5, 2, 0.05),  # one half is painted, the other as it was
    "mixed": Fault("object", 3, 5, 2, 0.05),  # before and after shine through each other
    "smeared": Fault("object", 3, 5, 2, 0.05),
    # Of its neighbours:
    "neighbour changed": Fault("others", 5, 3, 5, 0.07),
    "neighbour gone": Fault("others", 5, 3, 5, 0.06),
    # Of the whole picture:
    "tinted": Fault("picture", 5, 3, 5, 0.04),
    "blurred": Fault("picture", 5, 3, 3, 0.04),
    "noisy": Fault("picture", 5, 3, 3, 0.04),
    "shifted": Fault("picture", 5, 3, 5, 0.04),
    "another": Fault("picture", 1, 1, 5, 0.02),  # picture, with nothing of this one
}
"""The scores that follow from what was done: the least of all faults' on each axis; two faults that
each leave 3 of preservation leave 2."""

FAULTLESS = 0.75
"""Weight of none; with a repainted picture that is one whole and slightly soft."""

TWO_FAULTS = 0.2
"""Part of the faulty edits that get a second one, of another part."""

REPAINTED = 0.2
"""Part of the edits that went through a painter's VAE: a flaw that has to be looked for, 4 of
preservation and of plausibility."""

SOFT = 4
ACCEPTED = 4
"""Least score on every axis of an edit that is accepted."""


@dataclass(frozen=True)
class Labelled:
    """An edit as an editor made it.

    Attributes:
        scene: before.
        index: of the object that is meant.
        target: the category that it was to become.
        faults: keys of `FAULTS`, the object's first.
        is_repainted: the picture went through a VAE.
        other: index of the neighbour that a fault concerns.
        category: that stands where another should; None where no fault puts one there.
        seed: of the paint.
    """

    scene: Scene
    index: int
    target: str
    faults: tuple[str, ...]
    is_repainted: bool
    other: int | None
    category: str | None
    seed: int

    @property
    def after(self) -> Scene:
        """What stands where afterwards, each thing whole."""
        if "another" in self.faults:
            return sample_scene(self.seed)
        scene = self.scene
        if "wrong" in self.faults and self.category:
            scene = replaced(scene, self.index, self.category)
        elif "elsewhere" in self.faults and self.other is not None:
            scene = replaced(scene, self.other, self.target)
        elif "unchanged" not in self.faults:
            scene = replaced(scene, self.index, self.target)
        if "neighbour changed" in self.faults and self.other is not None and self.category:
            scene = replaced(scene, self.other, self.category)
        missing = {"gone": self.index, "neighbour gone": self.other}
        left_out = {missing[fault] for fault in self.faults if fault in missing}
        kept = [item for i, item in enumerate(scene.objects) if i not in left_out]
        return replace(scene, objects=tuple(kept))

    @property
    def scores(self) -> dict[str, int]:
        """Of each of the judge's axes, as `FAULTS` has them."""
        most = SOFT if self.is_repainted else 5
        faults = [FAULTS[name] for name in self.faults]
        preservation = [most, *(fault.preservation for fault in faults)]
        if sum(score == 3 for score in preservation) > 1:
            preservation.append(2)
        scores = {
            "following": min([5, *(fault.following for fault in faults)]),
            "preservation": min(preservation),
            "plausibility": min([most, *(fault.plausibility for fault in faults)]),
        }
        return {axis: scores[axis] for axis in AXES}

    @property
    def is_accepted(self) -> bool:
        """Every axis scores `ACCEPTED` at least."""
        return accepts(self.scores)

    @property
    def verdict(self) -> Verdict:
        """The scores with a reason each: first what should be, then what is."""
        reasons = {
            "following": self._following(),
            "preservation": self._preservation(),
            "plausibility": self._plausibility(),
        }
        return Verdict(self.scores, {axis: reasons[axis] for axis in AXES})

    def _following(self) -> str:
        """What is there before what should be: who has named a thing is apt to see it."""
        unlike = (_UNLIKE[fault] for fault in self.faults if fault in _UNLIKE)
        place = self.scene.objects[self.index]
        text = _now(place.category, next(unlike, None) or self._seen(place))
        text += f"{_MEANT}{CATEGORIES[self.target].phrase}"
        if "elsewhere" in self.faults:
            text += f"{_ELSEWHERE}{self._other}"
        return f"{text}."

    def _preservation(self) -> str:
        if "another" in self.faults:
            return _CHANGES["another"]
        others = [item for i, item in enumerate(self.scene.objects) if i != self.index]
        stayed = _STAYED_SOFT if self.is_repainted else _STAYED
        changes = [_CHANGES[fault] for fault in self.faults if fault in _CHANGES]
        neighbours = [f"{_now(item.category, self._seen(item))}." for item in others]
        return " ".join([*neighbours, *(changes or [stayed])])

    def _seen(self, place: SceneObject) -> str:
        """What stands afterwards where an object stood."""
        names = [item.category for item in self.after.objects if item.box == place.box]
        return CATEGORIES[names[0]].phrase if names else _GONE

    def _plausibility(self) -> str:
        sound = _SOUND_SOFT if self.is_repainted else _SOUND
        return next((_FLAWS[fault] for fault in self.faults if fault in _FLAWS), sound)

    @property
    def _other(self) -> str:
        return "" if self.other is None else self.scene.categories[self.other]


def _now(category: str, seen: str) -> str:
    return f"The {category}{_NOW}{seen}"


_NOW, _MEANT, _ELSEWHERE = " is now ", ", and should be ", ", as is now the "
_GONE = "gone"
_UNLIKE = {
    "half": "half itself and half another",
    "mixed": "a mix of two things",
    "smeared": "a smear",
    "another": "in another picture",
}
_STAYED = "All else is as it was."
_STAYED_SOFT = "All else is as it was, if a little soft."
_CHANGES = {
    "tinted": "The colours are others.",
    "blurred": "The whole picture is blurred.",
    "noisy": "The whole picture is grainy.",
    "shifted": "The whole picture has moved.",
    "another": "Nothing is as it was.",
}
_SOUND = "Every shape is whole and clear."
_SOUND_SOFT = "Every shape is whole, if a little soft."
_FLAWS = {
    "half": "Two halves do not fit together.",
    "mixed": "Two things shine through each other.",
    "smeared": "One thing is smeared.",
    "blurred": "Everything is blurred.",
    "noisy": "Everything is grainy.",
}
REASON_PIECES = (
    *(piece.rstrip() for piece in (_NOW, _MEANT, _ELSEWHERE)),
    *_UNLIKE.values(),
    *(_STAYED, _STAYED_SOFT, *_CHANGES.values()),
    *(_SOUND, _SOUND_SOFT, *_FLAWS.values()),
)
"""What the reasons are made of, but for names of things."""


def accepts(scores: Mapping[str, float]) -> bool:
    """Whether every axis scores `ACCEPTED` at least."""
    return min(scores.values()) >= ACCEPTED


def draw(scene: Scene, index: int, target: str, rng: np.random.Generator, seeds: range) -> Labelled:
    """Decide what an editor makes of an instruction.

    Args:
        scene: before.
        index: of the object that is meant.
        target: the category that it is to become.
        rng: the source of all choices.
        seeds: of scenes that may come instead.
    """
    faults = _faults(len(scene.objects), rng)
    others = [i for i in range(len(scene.objects)) if i != index]
    concerns_other = any(f == "elsewhere" or FAULTS[f].part == "others" for f in faults)
    puts_category = any(f in ("wrong", "neighbour changed") for f in faults)
    other = int(rng.choice(others)) if concerns_other else None
    free = [name for name in sorted(CATEGORIES) if name not in (*scene.categories, target)]
    # What another relation leads to is the likelier mistake.
    near = [pairs.get(scene.categories[index]) for pairs in RELATIONS.values()]
    likely = [name for name in free if name in near]
    pool = likely if likely and rng.random() < 0.3 else free
    category = str(rng.choice(pool)) if puts_category else None
    is_repainted = bool(rng.random() < REPAINTED) and "another" not in faults
    return Labelled(
        scene,
        index,
        target,
        faults,
        is_repainted,
        other,
        category,
        int(rng.integers(seeds.start, seeds.stop)),
    )


def pictures(edits: Sequence[Labelled], repaint: Repaint) -> list[Picture]:
    """The edited pictures, uint8 HWC."""
    rngs = [np.random.default_rng((edit.seed, 0xFA17)) for edit in edits]
    painted = [_painted(edit, rng) for edit, rng in zip(edits, rngs, strict=True)]
    places = [i for i, edit in enumerate(edits) if edit.is_repainted]
    if places:
        for place, picture in zip(places, repaint([painted[i] for i in places]), strict=True):
            painted[place] = picture
    for place, (edit, rng) in enumerate(zip(edits, rngs, strict=True)):
        for fault in edit.faults:
            if fault in _DRIFTS:
                painted[place] = _DRIFTS[fault](painted[place], rng)
    return painted


def _faults(num_objects: int, rng: np.random.Generator) -> tuple[str, ...]:
    needs_other = {"elsewhere", "neighbour changed", "neighbour gone"}
    names = [name for name in FAULTS if num_objects > 1 or name not in needs_other]
    weights = np.array([FAULTLESS, *(FAULTS[name].weight for name in names)])
    first = int(rng.choice(len(weights), p=weights / weights.sum()))
    if first == 0:
        return ()
    faults = [names[first - 1]]
    if rng.random() < TWO_FAULTS:
        faults.append(str(rng.choice(names)))
    return tuple(sorted(faults, key=list(FAULTS).index)) if _go_together(faults) else (faults[0],)


def _go_together(faults: list[str]) -> bool:
    """One of each part; no second in another picture, nor where one neighbour has both."""
    parts = {FAULTS[fault].part for fault in faults}
    if len(parts) < len(faults) or "another" in faults:
        return False
    both = {"neighbour changed", "neighbour gone"} & set(faults)
    return not ("elsewhere" in faults and both) and not ("wrong" in faults and both)


def _painted(edit: Labelled, rng: np.random.Generator) -> Picture:
    """The scene afterwards, with what is not whole about the object that is meant."""
    picture = render(edit.after)
    left, top, right, bottom = edit.scene.visible(edit.scene.objects[edit.index])
    region, before = picture[top:bottom, left:right], render(edit.scene)[top:bottom, left:right]
    if "half" in edit.faults:
        side = len(region)
        middle = int(side * rng.uniform(0.4, 0.6))
        part = slice(middle) if rng.random() < 0.5 else slice(middle, side)
        where = (part, slice(None)) if rng.random() < 0.5 else (slice(None), part)
        region[where] = before[where]
    elif "mixed" in edit.faults:
        share = rng.uniform(0.35, 0.65)
        region[:] = (share * region + (1 - share) * before).astype(np.uint8)
    elif "smeared" in edit.faults:
        region[:] = _blur(region, rng.uniform(3.5, 6))
    return picture


def _tinted(picture: Picture, rng: np.random.Generator) -> Picture:
    while True:
        gains = rng.uniform(0.7, 1.08, 3)
        if np.abs(gains - 1).mean() > 0.12:
            return np.clip(picture * gains, 0, 255).astype(np.uint8)


def _noisy(picture: Picture, rng: np.random.Generator) -> Picture:
    noise = rng.normal(0, rng.uniform(14, 30), picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _shifted(picture: Picture, rng: np.random.Generator) -> Picture:
    across, down = (int(v) for v in rng.integers(5, 13, 2) * rng.choice([-1, 1], 2))
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - across, 0, width - 1)
    shifted: Picture = picture[rows][:, columns]
    return shifted


def _blur(picture: Picture, sigma: float) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)))


_DRIFTS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "tinted": _tinted,
    "blurred": lambda picture, rng: _blur(picture, rng.uniform(1.6, 3)),
    "noisy": _noisy,
    "shifted": _shifted,
}

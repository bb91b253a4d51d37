"""Which of the boxes that were found may be repainted, and how each is told from others alike.

A sentence such as "turn the dog into a fox" must mean one thing, and repainting its box must not
take other things along that the caption goes on naming.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reasonray.core.boxes import Box, area, clipped, iou, share_inside
from reasonray.core.record import Detection
from reasonray.core.sections import GroundConfig
from reasonray.prompts.edits import counted
from reasonray.prompts.objects import described

if TYPE_CHECKING:
    from reasonray.models.detector import PhraseBox

MIN_VISIBLE = 0.5
"""Least part of a box that lies within the picture."""

MAX_HELD = 0.6
"""A box that holds more of another category's is a container, as a plate under a pizza."""

SAME_THING_IOU = 0.8
"""From here on two categories are two names of one thing."""

MAX_INSTANCES = 4
"""With more of a kind, a detector misses some, and "leftmost" may mean one of those."""

MIN_GAP = 0.5
"""Between the middles of two boxes, of the larger side, for one to be further left or up."""

MIN_SIZE_RATIO = 2.0
"""Of two areas, for one to be the largest to anybody's eye."""


def offered(
    boxes: "Sequence[PhraseBox]", size: tuple[int, int], config: GroundConfig, caption: str = ""
) -> list[Detection]:
    """One box at most of each category, clipped to the picture.

    Args:
        boxes: of each category all instances, in the categories' order.
        size: width and height of the picture, pixels.
        config: thresholds.
        caption: of the picture.
    """
    every = _visible(boxes, size, config)
    detections: list[Detection] = []
    for phrase, instances in every.items():
        others = [item for name in every if name != phrase for item in every[name]]
        choices = [
            (score, box, qualifier)
            for (box, score), qualifier in zip(instances, _qualifiers(instances), strict=True)
            if config.min_area <= area(box) / math.prod(size) <= config.max_area
            and not _takes_along(box, score, others)
            and (len(instances) == 1 or qualifier)
        ]
        if not choices or (len(instances) == 1 and counted(caption, phrase)):
            continue
        score, box, qualifier = max(choices, key=lambda choice: choice[0])
        about = described(box, size, qualifier=qualifier, num_instances=len(instances))
        detections.append(
            {
                "category": phrase,
                "box": list(box),
                "score": score,
                "qualifier": qualifier,
                "num_instances": len(instances),
                "about": about,
            }
        )
    return detections


def why_none(
    boxes: "Sequence[PhraseBox]", size: tuple[int, int], config: GroundConfig, caption: str = ""
) -> tuple[str, str]:
    """The reason code, and one sentence on the most promising category, where none is offered."""
    if not boxes:
        return "no_object", "there is no category to look for"
    best = max(boxes, key=lambda item: item.score)
    if best.score < config.box_threshold:
        return "no_object", (
            f"the best score, {best.score:.2f} for {best.phrase!r}, is below box_threshold "
            f"{config.box_threshold}"
        )
    every = _visible(boxes, size, config)
    fitting = {
        phrase: instances
        for phrase, instances in every.items()
        if any(
            config.min_area <= area(b) / math.prod(size) <= config.max_area for b, _ in instances
        )
    }
    if not fitting:
        return "no_object", (
            f"the box of {best.phrase!r} is out of the picture, or its area not within "
            f"{config.min_area}..{config.max_area} of the picture's"
        )
    phrase, instances = max(fitting.items(), key=lambda item: max(score for _, score in item[1]))
    if len(instances) > 1:
        detail = f"{len(instances)} of {phrase!r} were found, and none stands out by place or size"
    elif counted(caption, phrase):
        detail = f"the caption speaks of several of {phrase!r}, and one box was found"
    else:
        detail = f"the box of {phrase!r} holds other things that were found"
    return "ambiguous_object", detail


Instance = tuple[Box, float]
"""A box within the picture, and its score."""


def _visible(
    boxes: "Sequence[PhraseBox]", size: tuple[int, int], config: GroundConfig
) -> dict[str, list[Instance]]:
    """What was surely found, by category, clipped to the picture."""
    every: defaultdict[str, list[Instance]] = defaultdict(list)
    for item in boxes:
        box = clipped(item.box, size)
        if item.score >= config.box_threshold and area(box) >= MIN_VISIBLE * area(item.box) > 0:
            every[item.phrase].append((box, item.score))
    return every


def _takes_along(box: Box, score: float, others: Sequence[Instance]) -> bool:
    """Whether most of another category's thing lies in the box, or a surer name of the same."""
    for other, other_score in others:
        if float(iou(other, box)) >= SAME_THING_IOU:
            if other_score > score:
                return True
        elif area(other) < area(box) and float(share_inside(other, box)) > MAX_HELD:
            return True
    return False


def _qualifiers(instances: Sequence[Instance]) -> list[str | None]:
    """The word that tells each of several from all others; None where there is no clear one."""
    words: list[str | None] = [None] * len(instances)
    if not 1 < len(instances) <= MAX_INSTANCES:
        return words
    for place, word in _extremes(np.array([box for box, _ in instances])):
        words[place] = words[place] or word
    return words


def _extremes(boxes_N4: np.ndarray) -> Iterator[tuple[int, str]]:
    """Places and words, the clearest kinds of words first."""
    is_pair = len(boxes_N4) == 2
    sides = boxes_N4[:, 2:] - boxes_N4[:, :2]
    middles = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    pairs = (("left", "right"), ("upper", "lower"))
    singles = (("leftmost", "rightmost"), ("uppermost", "lowermost"))
    for axis, (low, high) in enumerate(pairs if is_pair else singles):
        order = middles[:, axis].argsort()
        for first, second, word in ((order[0], order[1], low), (order[-1], order[-2], high)):
            gap = abs(middles[first, axis] - middles[second, axis])
            if gap >= MIN_GAP * max(sides[first, axis], sides[second, axis]):
                yield int(first), word
    areas = sides.prod(axis=1)
    order = areas.argsort()
    for first, second, word in (
        (order[-1], order[-2], "larger" if is_pair else "largest"),
        (order[0], order[1], "smaller" if is_pair else "smallest"),
    ):
        if max(areas[first], areas[second]) >= MIN_SIZE_RATIO * min(areas[first], areas[second]):
            yield int(first), word

"""Stage `ground`: a box in the input image for each candidate category (Eq. 5)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from reasonray.core.boxes import area, clipped
from reasonray.core.images import decode
from reasonray.core.record import Detection, Image, Row, reject
from reasonray.core.sections import GroundConfig
from reasonray.stages.stage import Stage

if TYPE_CHECKING:
    from reasonray.models.detector import PhraseBox

MIN_VISIBLE = 0.5
"""Least part of a box that lies within the picture."""


class Ground(Stage):
    """Grounding DINO's best box for each category of `S`: `DINO(S, x)`, Eq. 5 of the paper."""

    name = "ground"
    parts = ("II", "III")
    reads = {"input_image": "encoded picture", "categories": "phrases, lower case"}
    writes = {"detections": "category, box (xyxy pixels of the picture), score 0..1"}
    rejects = {"no_object": "no category has a box of sufficient score and fitting size"}

    def __init__(self, config: GroundConfig, *, seed: int) -> None:
        from reasonray.models.detector import Detector
        from reasonray.models.weights import revision

        self.config = config
        self.detector = Detector(config.model)
        commit = revision(config.model)
        self.models = [{"stage": self.name, "name": config.model.name, "revision": commit}]

    def process(self, rows: list[Row]) -> None:
        """Write `detections`, in the order of the categories."""
        images = [decode(cast(Image, row["input_image"])) for row in rows]
        categories = [list(row.get("categories") or []) for row in rows]
        detected = self.detector.detect(images, categories)
        for row, image, boxes in zip(rows, images, detected, strict=True):
            row["detections"] = offered(boxes, image.size, self.config)
            if not row["detections"]:
                reject(row, self.name, "no_object", why_none(boxes, self.config))


def offered(
    boxes: "Sequence[PhraseBox]", size: tuple[int, int], config: GroundConfig
) -> list[Detection]:
    """The boxes that may be repainted, clipped to the picture.

    Args:
        boxes: the best box of each category.
        size: width and height of the picture, pixels.
        config: thresholds.
    """
    detections: list[Detection] = []
    for item in boxes:
        box = clipped(item.box, size)
        is_visible = area(box) >= MIN_VISIBLE * area(item.box) > 0
        fits = config.min_area <= area(box) / math.prod(size) <= config.max_area
        if item.score >= config.box_threshold and fits and is_visible:
            detections.append({"category": item.phrase, "box": list(box), "score": item.score})
    return detections


def why_none(boxes: "Sequence[PhraseBox]", config: GroundConfig) -> str:
    """One sentence on the most promising category of a picture without any offered box."""
    if not boxes:
        return "there is no category to look for"
    best = max(boxes, key=lambda item: item.score)
    if best.score < config.box_threshold:
        return (
            f"the best score, {best.score:.2f} for {best.phrase!r}, is below box_threshold "
            f"{config.box_threshold}"
        )
    return (
        f"the box of {best.phrase!r} is out of the picture, or its area not within "
        f"{config.min_area}..{config.max_area} of the picture's"
    )

"""Stage `ground`: a box in the input image for each candidate category (Eq. 5)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from reasonray.core.images import decode
from reasonray.core.record import Image, Row, reject
from reasonray.core.sections import GroundConfig
from reasonray.stages.instances import offered, why_none
from reasonray.stages.stage import Stage

if TYPE_CHECKING:
    from reasonray.models.detector import Answers, PhraseBox


class Ground(Stage):
    """Grounding DINO's boxes for each category of `S`: `DINO(S, x)`, Eq. 5 of the paper.

    A category is offered with one box: of its only instance, or of one that can be told from the
    others in a word.
    """

    name = "ground"
    parts = ("II", "III")
    reads = {
        "input_image": "encoded picture",
        "input_caption": "tells of how many a thing there are",
        "categories": "phrases, lower case",
    }
    writes = {
        "detections": "category, box (xyxy pixels of the picture), score 0..1; which of how many "
        "it is, and its size, shape and place in words"
    }
    rejects = {
        "no_object": "no category has a box of sufficient score and fitting size",
        "ambiguous_object": "what was found is one of several alike, or holds other things",
    }

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
        answers = self.detector.ask(images, categories)
        for row, image, own in zip(rows, images, answers, strict=True):
            boxes = boxes_of(own, self.config.box_threshold)
            caption = row.get("input_caption") or ""
            row["detections"] = offered(boxes, image.size, self.config, caption)
            if not row["detections"]:
                reject(row, self.name, *why_none(boxes, image.size, self.config, caption))


def boxes_of(answers: "Sequence[Answers]", threshold: float) -> "list[PhraseBox]":
    """All instances of each phrase; of a phrase without any the best box, to say how near it is."""
    boxes: list[PhraseBox] = []
    for each in answers:
        best = each.best()
        boxes += each.instances(threshold) or ([best] if best else [])
    return boxes

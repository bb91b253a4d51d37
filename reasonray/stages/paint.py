"""Stage `paint`: the selected category's box repainted as the target (Eq. 7)."""

from typing import cast

from reasonray.core.boxes import widened
from reasonray.core.images import decode, handed_on
from reasonray.core.record import Image, Row, reject, sample_seed
from reasonray.core.sections import PaintConfig
from reasonray.stages.stage import Stage


class Paint(Stage):
    """GLIGEN inpaints the box: `x' = GLIGEN(x, box, target)`, Eq. 7 of the paper."""

    name = "paint"
    parts = ("II", "III")
    reads = {
        "input_image": "encoded picture",
        "detection_box": "xyxy, pixels of the picture",
        "target_category": "what is painted into the box",
        "edited_caption": "what the whole picture shows afterwards",
    }
    writes = {
        "edited_image": "of the picture's size, equal to it outside the box; `quality` encodes it",
        "box": "the detection's box with its margin, whole pixels: what was repainted",
    }
    rejects = {"paint_failed": "the model gave no finite picture"}

    def __init__(self, config: PaintConfig, *, seed: int) -> None:
        from reasonray.models.painter import Painter
        from reasonray.models.weights import revision

        self.config = config
        self.seed = seed
        self.painter = Painter.from_config(config.model)
        commit = revision(config.model, "unet/config.json")
        self.models = [{"stage": self.name, "name": config.model.name, "revision": commit}]

    def process(self, rows: list[Row]) -> None:
        """Write `edited_image`, and the `box` that was repainted."""
        images = [decode(cast(Image, row["input_image"])) for row in rows]
        for row, image in zip(rows, images, strict=True):
            detection = cast(list[float], row["detection_box"])
            row["box"] = list(widened(detection, self.config.margin, image.size))
        painted = self.painter.paint(
            images,
            [cast(list[float], row["box"]) for row in rows],
            [cast(str, row["target_category"]) for row in rows],
            [cast(str, row["edited_caption"]) for row in rows],
            [sample_seed(self.seed, row["id"], self.name) for row in rows],
            self.config,
        )
        for row, edited in zip(rows, painted, strict=True):
            if edited is None:
                detail = "the sampler ended in infinite or undefined values; try dtype: float32"
                reject(row, self.name, "paint_failed", detail)
            else:
                row["edited_image"] = handed_on(edited)

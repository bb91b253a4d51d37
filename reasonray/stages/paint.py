"""Stage `paint`: the selected category's box repainted as the target (Eq. 7)."""

from collections.abc import Sequence
from typing import cast

from reasonray.core.images import decode, encode_png
from reasonray.core.record import Image, Row, reject, sample_seed
from reasonray.core.sections import PaintConfig
from reasonray.stages.stage import Stage


class Paint(Stage):
    """GLIGEN inpaints the box: `x' = GLIGEN(x, box, target)`, Eq. 7 of the paper."""

    name = "paint"
    parts = ("II", "III")
    reads = {
        "input_image": "encoded picture",
        "box": "xyxy, pixels of the picture",
        "target_category": "what is painted into the box",
        "edited_caption": "what the whole picture shows afterwards",
    }
    writes = {
        "edited_image": "PNG of the picture's size, equal to it outside the box",
        "box": "the box with its margin: what was repainted",
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
        """Write `edited_image`, and `box` with its margin."""
        images = [decode(cast(Image, row["input_image"])) for row in rows]
        for row, image in zip(rows, images, strict=True):
            row["box"] = widened(cast(list[float], row["box"]), self.config.margin, image.size)
        painted = self.painter.paint(
            images,
            [cast(list[float], row["box"]) for row in rows],
            [cast(str, row["target_category"]) for row in rows],
            [cast(str, row["edited_caption"]) for row in rows],
            [sample_seed(self.seed, row["id"], self.name) for row in rows],
            num_inference_steps=self.config.num_inference_steps,
            guidance_scale=self.config.guidance_scale,
            scheduled_sampling_beta=self.config.scheduled_sampling_beta,
            feather=self.config.feather,
        )
        for row, edited in zip(rows, painted, strict=True):
            if edited is None:
                detail = "the sampler ended in infinite or undefined values; try dtype: float32"
                reject(row, self.name, "paint_failed", detail)
            else:
                row["edited_image"] = encode_png(edited)


def widened(box: Sequence[float], margin: float, size: tuple[int, int]) -> list[float]:
    """A box grown on each side by `margin` of its width or height, cut off at the picture.

    Args:
        box: xyxy, pixels.
        margin: 0..1.
        size: width and height of the picture.
    """
    left, top, right, bottom = box
    across, down = margin * (right - left), margin * (bottom - top)
    return [
        max(left - across, 0.0),
        max(top - down, 0.0),
        min(right + across, float(size[0])),
        min(bottom + down, float(size[1])),
    ]

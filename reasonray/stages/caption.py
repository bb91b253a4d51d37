"""Stage `caption`: what stands in an input image that came without a caption."""

from typing import cast

from reasonray.core.images import decode
from reasonray.core.record import Image, Row, reject
from reasonray.core.sections import CaptionConfig
from reasonray.stages.stage import Stage


class Caption(Stage):
    """BLIP-2's caption of the input (section 3.3 of the paper), where the source gives none."""

    name = "caption"
    parts = ("II", "III")
    reads = {"input_image": "encoded picture", "input_caption": "the source's, or null"}
    writes = {"input_caption": "one sentence, never empty"}
    rejects = {"empty_caption": "the captioner says nothing about the picture"}

    def __init__(self, config: CaptionConfig, *, seed: int) -> None:
        from reasonray.models.captioner import Captioner
        from reasonray.models.weights import revision

        self.captioner = Captioner(
            config.model, max_new_tokens=config.max_new_tokens, num_beams=config.num_beams
        )
        commit = revision(config.model)
        self.models = [{"stage": self.name, "name": config.model.name, "revision": commit}]

    def concerns(self, row: Row) -> bool:
        """Only rows that have no caption yet."""
        return super().concerns(row) and not (row.get("input_caption") or "").strip()

    def process(self, rows: list[Row]) -> None:
        """Write `input_caption`; reject a picture that gets none."""
        images = [decode(cast(Image, row["input_image"])) for row in rows]
        captions = self.captioner.caption(images)
        for row, caption in zip(rows, captions, strict=True):
            if any(letter.isalpha() for letter in caption):
                row["input_caption"] = caption
            else:
                detail = f"the captioner gave {caption!r}, which has no word"
                reject(row, self.name, "empty_caption", detail)

"""Stage `caption`: what stands in an input image that came without a caption."""

import re
from collections import Counter
from typing import cast

from reasonray.core.images import decode
from reasonray.core.record import Image, Row, reject
from reasonray.core.sections import CaptionConfig
from reasonray.prompts.words import words
from reasonray.stages.stage import Stage

_REPEATED = re.compile(r"\b(\w+(?: \w+)*) \1\b")
_COMMON = frozenset(
    words(
        "a an the and or of in on at to by with from for as is are that this it its his her one "
        "two three other another next top front side back up down over under near behind between "
        "around into out off there some very while man woman person people"
    )
)


class Caption(Stage):
    """BLIP-2's caption of the input (section 3.3 of the paper), where the source gives none."""

    name = "caption"
    parts = ("II", "III")
    reads = {"input_image": "encoded picture", "input_caption": "the source's, or null"}
    writes = {"input_caption": "one sentence, never empty"}
    rejects = {
        "empty_caption": "the captioner says nothing about the picture",
        "looping_caption": "the captioner repeats itself, as language models do without a hold",
    }

    def __init__(self, config: CaptionConfig, *, seed: int) -> None:
        from reasonray.models.captioner import Captioner
        from reasonray.models.weights import revision

        self.captioner = Captioner(
            config.model,
            max_new_tokens=config.max_new_tokens,
            min_new_tokens=config.min_new_tokens,
            num_beams=config.num_beams,
            no_repeat_ngram_size=config.no_repeat_ngram_size,
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
            if not any(letter.isalpha() for letter in caption):
                detail = f"the captioner gave {caption!r}, which has no word"
                reject(row, self.name, "empty_caption", detail)
            elif loops(caption):
                detail = f"the captioner repeats itself in {caption!r}"
                reject(row, self.name, "looping_caption", detail)
            else:
                row["input_caption"] = caption


def loops(caption: str) -> bool:
    """Whether a caption repeats itself, as a greedy language model does.

    Args:
        caption: any text.

    Returns:
        True where words follow upon themselves ("ray ban ray ban", "a hat on top of a hat on top
        of a hat") or one that means something stands there three times ("a cat with a cat on a
        cat").
    """
    spoken = words(caption)
    counts = Counter(word for word in spoken if word not in _COMMON)
    # Across a comma two alike are a list: "a sheep, a sheep and a cow".
    pieces = (" ".join(words(piece)) for piece in re.split(r"[,;.]", caption))
    return max(counts.values(), default=0) > 2 or any(map(_REPEATED.search, pieces))

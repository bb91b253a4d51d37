"""Stage `quality`: what a made pair must satisfy, measured on the pictures themselves.

Near-duplicates need a view of the whole run, which a stage does not have. It writes each edited
picture's perceptual hash (`image_hash`); whoever holds all rows of an input (its variations) can
reject those whose hashes differ in few bits, in the order of the plan.
"""

from collections.abc import Sequence
from typing import cast

import imagehash
import numpy as np
import PIL.Image

from reasonray.core.boxes import whole
from reasonray.core.images import decode, encode
from reasonray.core.record import Image, Row, Scores, add_scores, reject
from reasonray.core.sections import EditedFormat, QualityConfig
from reasonray.core.signatures import kind_of
from reasonray.stages.divergence import mean_squared_difference
from reasonray.stages.stage import Stage

PAINTED = ("II", "III")
"""Parts whose edited picture is made here; Part I's is the source's own file."""

SIZE = 256
"""Pictures and boxes are compared at this square size for Eq. 1, as Part I's are by default."""


class Quality(Stage):
    """Eq. 1 on every pair; for painted pairs also what Grounding DINO sees in the box (Eq. 5).

    Pairs of Part I have no box: only the pictures' difference is checked. Painted pictures are
    encoded here: the painter's GPU is not to wait for that, and what is measured is what is
    published.
    """

    name = "quality"
    reads = {
        "input_image": "encoded picture",
        "edited_image": "encoded picture",
    }
    may_read = {
        "box": "xyxy, whole pixels, of a pair that was painted here",
        "target_category": "where there is a box",
        "selected_category": "where there is a box",
        "scores.divergence": "of the pair, where it was measured before",
    }
    writes = {
        "edited_image": "of a painted pair encoded as `output.edited_format`",
        "scores.divergence": "mean squared difference, RGB 0..1, unless already measured",
        "scores.outside_change": "mean absolute difference outside the box, RGB 0..1",
        "scores.target_detection": "0..1",
        "scores.selected_detection": "0..1",
        "image_hash": "perceptual hash of the edited picture, 16 hexadecimal digits",
    }
    rejects = {
        "unchanged": "the picture (in the box, where there is one) hardly changed",
        "changed_outside": "the picture changed outside the box",
        "target_not_found": "the detector does not see the target in the edited box",
        "selected_still_there": "the detector still sees the selected category in the edited box",
    }

    def __init__(
        self, config: QualityConfig, *, seed: int, edited_format: EditedFormat = "webp"
    ) -> None:
        from reasonray.models.detector import Detector
        from reasonray.models.weights import revision

        self.config = config
        self.edited_format: EditedFormat = edited_format
        self.detector: Detector | None = None
        if config.min_target_score is not None or config.max_selected_score is not None:
            self.detector = Detector(config.model)
            commit = revision(config.model)
            self.models = [{"stage": self.name, "name": config.model.name, "revision": commit}]

    def __call__(self, rows: list[Row]) -> list[Row]:
        """As every stage does; all painted pictures leave in the format, be they rejected."""
        return super().__call__([self._encoded(row) for row in rows])

    def _encoded(self, row: Row) -> Row:
        image = row.get("edited_image")
        if image is None or row["part"] not in PAINTED:
            return row
        if (kind_of(image["bytes"]) or "").lower() == self.edited_format:
            return row
        done = row.copy()
        done["edited_image"] = encode(decode(image), self.edited_format)
        return done

    def process(self, rows: list[Row]) -> None:
        """Write scores and hash; reject what falls short of a threshold."""
        pairs = [
            (decode(cast(Image, row["input_image"])), decode(cast(Image, row["edited_image"])))
            for row in rows
        ]
        painted = [(row, pair) for row, pair in zip(rows, pairs, strict=True) if row.get("box")]
        for row, (before, after) in painted:
            add_scores(row, outside_change=outside_change(before, after, _box(row)))
        if self.detector is not None and painted:
            answers = self.detector.ask(
                [after for _, (_, after) in painted],
                [
                    (_name(row, "target_category"), _name(row, "selected_category"))
                    for row, _ in painted
                ],
            )
            for (row, _), (target, selected) in zip(painted, answers, strict=True):
                region = _box(row)
                add_scores(
                    row,
                    target_detection=target.score_in(region),
                    selected_detection=selected.score_in(region),
                )
        for row, (before, after) in zip(rows, pairs, strict=True):
            row["image_hash"] = str(imagehash.phash(after))
            if "divergence" not in (row.get("scores") or {}):
                add_scores(row, divergence=mean_squared_difference(before, after, SIZE))
            change = row["scores"]["divergence"]
            if row.get("box"):
                # A small box hardly counts in the whole picture, however much it changed.
                cut = whole(_box(row), before.size)
                change = mean_squared_difference(before.crop(cut), after.crop(cut), SIZE)
            fault = shortfall(row["scores"], change, self.config)
            if fault is not None:
                reject(row, self.name, *fault)


def shortfall(scores: Scores, change: float, config: QualityConfig) -> tuple[str, str] | None:
    """The first reason and detail for which a pair is rejected; None for a good one.

    Args:
        scores: what was measured; a score that is missing is not checked.
        change: mean squared difference, RGB 0..1, of the box or of the whole picture.
        config: thresholds.
    """
    if config.min_divergence is not None and change < config.min_divergence:
        return "unchanged", f"mean squared difference {change:.6f} is below {config.min_divergence}"
    outside = scores.get("outside_change")
    limit = config.max_outside_change
    if limit is not None and outside is not None and outside > limit:
        return "changed_outside", f"mean difference outside the box {outside:.4f} is above {limit}"
    target, least = scores.get("target_detection"), config.min_target_score
    if least is not None and target is not None and target < least:
        return "target_not_found", f"the target's score in the box, {target:.2f}, is below {least}"
    selected, most = scores.get("selected_detection"), config.max_selected_score
    if most is not None and selected is not None and selected > most:
        return (
            "selected_still_there",
            f"the selected category's score in the box, {selected:.2f}, is above {most}",
        )
    return None


def outside_change(before: PIL.Image.Image, after: PIL.Image.Image, box: Sequence[float]) -> float:
    """Mean absolute difference, RGB 0..1, over the pixels that the box does not touch; 0 if none.

    Args:
        before, after: RGB, of one size.
        box: xyxy, pixels of `before`.
    """
    first, second = (np.asarray(image, dtype=np.int16) for image in (before, after))
    left, top, right, bottom = whole(box, before.size)
    outside = np.ones(first.shape[:2], dtype=bool)
    outside[top:bottom, left:right] = False
    if not outside.any():
        return 0.0
    return float(np.abs(first - second)[outside].mean() / 255)


def _box(row: Row) -> list[float]:
    return cast(list[float], row["box"])


def _name(row: Row, field: str) -> str:
    return cast(str, row[field])  # type: ignore[literal-required]

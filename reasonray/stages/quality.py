"""Stage `quality`: what a made pair must satisfy, measured on the pictures themselves.

Near-duplicates need a view of the whole run, which a stage does not have. It writes each edited
picture's perceptual hash (`image_hash`); whoever holds all rows of an input (its variations) can
reject those whose hashes differ in few bits, in the order of the plan.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import imagehash
import numpy as np
import PIL.Image

from reasonray.core.boxes import share_inside, whole
from reasonray.core.images import decode, encode
from reasonray.core.record import Detection, Image, Row, Scores, add_scores, reject
from reasonray.core.sections import EditedFormat, QualityConfig
from reasonray.core.signatures import kind_of
from reasonray.core.window import square_window
from reasonray.prompts.direct import with_article
from reasonray.stages.divergence import mean_squared_difference
from reasonray.stages.stage import Stage

if TYPE_CHECKING:
    from reasonray.models.detector import Answers, Detector
    from reasonray.models.embedders import Clip

PAINTED = ("II", "III")
"""Parts whose edited picture is made here; Part I's is the source's own file."""

SIZE = 256
"""Pictures and boxes are compared at this square size for Eq. 1, as Part I's are by default."""

PLACES = 16
"""Outside the box a picture is compared in so many places across and down: a changed neighbour
would be lost in the mean of a whole picture."""

INSIDE, COVERING = 0.8, 0.1
"""A target counts where so much of its box lies in the painted one and covers so much of that: it
may have another shape than what it replaces, as a lamp in a bench's place."""

REMNANT_INSIDE = 0.5
"""What is left of the selected object lies in the painted box with so much of its own box at least;
less is another instance beside it."""

STILL_SEEN = 0.6
"""So much of an object's score before the edit is still the object."""

TOUCHED, SURE = 0.1, 0.1
"""An edit can cost another object its place where so much of its box is painted over; one whose
score was lower than this before is not looked for."""

CONTEXT = 2.5
"""CLIP sees a square of so many longer sides of the box: what stands around helps to tell what it
is, and leads neither of the two phrases."""


class Quality(Stage):
    """Eq. 1 on every pair; for painted pairs also what a detector and CLIP see in the box.

    Whether something is gone is told by its score before, too: the detector looks at that picture
    as well where it is in doubt, as scores of two detectors do not compare. Pairs of Part I have no
    box: only the pictures' difference is checked. Painted pictures are encoded here: the painter's
    GPU is not to wait for that, and what is measured is what is published.
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
        "input_caption": "where there is a box",
        "edited_caption": "where there is a box: what else stays in the picture",
        "detections": "where there is a box: other objects that it may touch",
        "scores.divergence": "of the pair, where it was measured before",
    }
    writes = {
        "edited_image": "of a painted pair encoded as `output.edited_format`",
        "scores.divergence": "mean squared difference, RGB 0..1, unless already measured",
        "scores.box_divergence": "the same of the box",
        "scores.outside_change": "mean absolute difference, RGB 0..1, of the most changed place",
        "scores.selected_detection": "0..1",
        "scores.target_detection": "0..1",
        "scores.clip_lead": "-2..2",
        "image_hash": "perceptual hash of the edited picture, 16 hexadecimal digits",
    }
    may_write = {
        "scores.selected_before": "0..1, where something hangs on it",
        "scores.neighbour_ratio": "0 or more, where an object that the box touches is in doubt",
    }
    rejects = {
        "unchanged": "the picture (in the box, where there is one) hardly changed",
        "changed_outside": "the picture changed outside the box",
        "target_not_found": "the detector does not see the target in the edited box",
        "selected_still_there": "the detector still sees the selected category in the edited box",
        "neighbour_gone": "another object that the edited caption names is no longer seen",
        "unlike_target": "CLIP finds the edited box more like the selected category",
    }

    def __init__(
        self, config: QualityConfig, *, seed: int, edited_format: EditedFormat = "webp"
    ) -> None:
        from reasonray.models.detector import Detector
        from reasonray.models.embedders import Clip
        from reasonray.models.weights import revision

        self.config = config
        self.edited_format: EditedFormat = edited_format
        self.detector: Detector | None = None
        self.clip: Clip | None = None
        models = []
        if config.asks_detector:
            self.detector = Detector(config.model)
            models.append(config.model)
        if config.min_clip_lead is not None:
            self.clip = Clip(config.clip)
            models.append(config.clip)
        self.models = [
            {"stage": self.name, "name": model.name, "revision": revision(model)}
            for model in models
        ]

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
        for row, (before, after) in zip(rows, pairs, strict=True):
            row["image_hash"] = str(imagehash.phash(after))
            if "divergence" not in (row.get("scores") or {}):
                add_scores(row, divergence=mean_squared_difference(before, after, SIZE))
        painted = [(row, *pair) for row, pair in zip(rows, pairs, strict=True) if row.get("box")]
        for row, before, after in painted:
            # A small box hardly counts in the whole picture, however much it changed.
            cut = whole(_box(row), before.size)
            change = mean_squared_difference(before.crop(cut), after.crop(cut), SIZE)
            outside = outside_change(before, after, _box(row))
            add_scores(row, box_divergence=change, outside_change=outside)
        if self.detector is not None and painted:
            self._detect(self.detector, painted)
        if self.clip is not None and painted:
            _compare(self.clip, painted)
        for row in rows:
            fault = shortfall(row["scores"], self.config)
            if fault is not None:
                reject(row, self.name, *fault)

    def _detect(self, detector: "Detector", painted: "Sequence[PaintedPair]") -> None:
        """Write what the detector sees after the edit, and before it where that is in doubt."""
        looked_for = [_Phrases(row, after.size) for row, _, after in painted]
        pictures = [after for _, _, after in painted]
        answers = detector.ask(pictures, [phrases.all for phrases in looked_for])
        doubtful = []
        for (row, before, _), phrases, after in zip(painted, looked_for, answers, strict=True):
            target, selected, beside = phrases.seen(after)
            add_scores(row, target_detection=target, selected_detection=selected)
            if self._in_doubt(selected, beside):
                doubtful.append((row, before, phrases, beside))
        answers = detector.ask(
            [before for _, before, _, _ in doubtful], [phrases.all for _, _, phrases, _ in doubtful]
        )
        for (row, _, phrases, beside), was in zip(doubtful, answers, strict=True):
            _, selected, beside_before = phrases.seen(was)
            add_scores(row, selected_before=selected)
            scores = zip(beside, beside_before, strict=True)
            ratios = [after / before for after, before in scores if before >= SURE]
            if ratios:
                add_scores(row, neighbour_ratio=min(ratios))

    def _in_doubt(self, selected: float, beside: Sequence[float]) -> bool:
        """Whether it depends on the picture before if an object is taken to be there, or gone."""
        most, ratio = self.config.max_selected_score, self.config.min_neighbour_ratio
        return (most is not None and selected > most) or (
            ratio is not None and min(beside, default=1.0) < ratio
        )


PaintedPair = tuple[Row, PIL.Image.Image, PIL.Image.Image]
"""A row, its picture before and after."""


class _Phrases:
    """What the detector is asked of a row: target, selected category, neighbours."""

    def __init__(self, row: Row, size: tuple[int, int]) -> None:
        self.region, self.size = _box(row), size
        self.neighbours = neighbours(row)
        self.all = [_text(row, "target_category"), _text(row, "selected_category")]
        self.all += [item["category"] for item in self.neighbours]

    def seen(self, answers: "Sequence[Answers]") -> tuple[float, float, list[float]]:
        """Scores of target and selected category in the box, of each neighbour in its place."""
        target, selected, *beside = answers
        places = zip(self.neighbours, beside, strict=True)
        return (
            target.score_in(self.region, self.size, inside=INSIDE, covering=COVERING),
            selected.score_in(self.region, self.size, inside=REMNANT_INSIDE),
            [answer.score_at(item["box"], self.size) for item, answer in places],
        )


def _compare(clip: "Clip", painted: Sequence[PaintedPair]) -> None:
    """Write how much more like the target than like the selected category the box is for CLIP."""
    views, texts = [], []
    for row, _, after in painted:
        left, top, right, bottom = _box(row)
        views.append(square_window(after.size, (left, top, right, bottom), CONTEXT).cut(after))
        target = with_article(_text(row, "target_category"), _text(row, "edited_caption"))
        selected = with_article(_text(row, "selected_category"), _text(row, "input_caption"))
        texts += [f"a photo of {target}", f"a photo of {selected}"]
    seen, read = clip.images(views), clip.texts(texts)
    leads = (seen * (read[::2] - read[1::2])).sum(dim=-1)
    for (row, _, _), lead in zip(painted, leads.tolist(), strict=True):
        add_scores(row, clip_lead=lead)


def neighbours(row: Row) -> list[Detection]:
    """Other detected objects that the painted box touches and the edited caption still names."""
    caption = _text(row, "edited_caption").lower()
    return [
        item
        for item in row.get("detections") or []
        if item["category"] != row["selected_category"]
        and item["category"].lower() in caption
        and share_inside(item["box"], _box(row)) >= TOUCHED
    ]


def shortfall(scores: Scores, config: QualityConfig) -> tuple[str, str] | None:
    """The first reason and detail for which a pair is rejected; None for a good one.

    Args:
        scores: what was measured; a score that is missing is not checked.
        config: thresholds.
    """
    change, least = scores.get("box_divergence"), config.min_box_divergence
    if change is None:
        change, least = scores.get("divergence"), config.min_divergence
    if least is not None and change is not None and change < least:
        return "unchanged", f"mean squared difference {change:.6f} is below {least}"
    outside, limit = scores.get("outside_change"), config.max_outside_change
    if limit is not None and outside is not None and outside > limit:
        return (
            "changed_outside",
            f"mean difference of a place outside {outside:.4f} is above {limit}",
        )
    return _unseen(scores, config) or _unlike(scores, config)


def _unseen(scores: Scores, config: QualityConfig) -> tuple[str, str] | None:
    """What the detector says against a pair."""
    if "target_detection" not in scores:
        return None
    target, selected = scores["target_detection"], scores["selected_detection"]
    least = config.min_target_score
    if least is not None and target < least:
        return "target_not_found", f"the target's score in the box, {target:.2f}, is below {least}"
    lead = config.min_target_lead
    if lead is not None and target - selected < lead:
        return (
            "selected_still_there",
            f"the target's score in the box, {target:.2f}, is not {lead} above the selected "
            f"category's, {selected:.2f}",
        )
    if config.max_selected_score is not None:
        most = max(config.max_selected_score, STILL_SEEN * scores.get("selected_before", 0.0))
        if selected > most:
            return (
                "selected_still_there",
                f"the selected category's score in the box, {selected:.2f}, is above {most:.2f}",
            )
    ratio, least_ratio = scores.get("neighbour_ratio"), config.min_neighbour_ratio
    if least_ratio is not None and ratio is not None and ratio < least_ratio:
        return (
            "neighbour_gone",
            f"another object in the box has {ratio:.2f} of its score before, below {least_ratio}",
        )
    return None


def _unlike(scores: Scores, config: QualityConfig) -> tuple[str, str] | None:
    lead, least = scores.get("clip_lead"), config.min_clip_lead
    if least is not None and lead is not None and lead < least:
        return (
            "unlike_target",
            f"CLIP's cosine with the target less that with the selected category, {lead:.3f}, is "
            f"below {least}",
        )
    return None


def outside_change(before: PIL.Image.Image, after: PIL.Image.Image, box: Sequence[float]) -> float:
    """Mean absolute difference, RGB 0..1, of the most changed place outside the box.

    Args:
        before, after: RGB, of one size; each is divided into `PLACES` x `PLACES`.
        box: xyxy, pixels of `before`; pixels that it touches count as unchanged.
    """
    first, second = (np.asarray(image, dtype=np.int16) for image in (before, after))
    change = np.abs(first - second).mean(axis=2, dtype=np.float32) / 255
    left, top, right, bottom = whole(box, before.size)
    change[top:bottom, left:right] = 0
    for axis, length in enumerate(change.shape):
        places = min(PLACES, length)
        edges = np.arange(places + 1) * length // places
        shape = (-1, 1) if axis == 0 else (1, -1)
        change = np.add.reduceat(change, edges[:-1], axis) / np.diff(edges).reshape(shape)
    return float(change.max())


def _box(row: Row) -> list[float]:
    return cast(list[float], row["box"])


def _text(row: Row, field: str) -> str:
    return cast(str, row.get(field) or "")

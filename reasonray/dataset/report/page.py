"""`report.html`: one page, complete in itself, for a person who wants to see what a run made.

`survey` counts and samples, `drawing` makes pictures and charts, the template lays them out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from reasonray.core.place import Place
from reasonray.core.record import PARTS, REASONING_TYPES, Row
from reasonray.core.sections import ImagesConfig, StagesConfig
from reasonray.core.writing import write_file
from reasonray.dataset.manifest import KINDS, PoolTiming
from reasonray.dataset.report.drawing import Thumbnail, histogram, thumbnail
from reasonray.dataset.report.survey import SEED, Survey
from reasonray.dataset.report.templates import environment
from reasonray.dataset.targets import few_dominate

REPORT = "report.html"

SAMPLES_EACH_PART = 12
REJECTIONS_EACH_REASON = 4
MAX_REJECTIONS = 48
MAX_REPLACEMENTS = 16
SAME_WORDS = 3

# With these the page stays below 5 MB even if every picture were noise.
SAMPLE_SIDE, SAMPLE_BYTES = 256, 24_000
REJECTION_SIDE, REJECTION_BYTES = 144, 10_000

# Score -> where the recipe keeps its limit, if it has one of its own.
_LIMITS = {
    "divergence": ("divergence", "threshold"),
    "detection": ("ground", "box_threshold"),
    "box_divergence": ("quality", "min_box_divergence"),
    "target_detection": ("quality", "min_target_score"),
    "selected_detection": ("quality", "max_selected_score"),
    "neighbour_ratio": ("quality", "min_neighbour_ratio"),
    "clip_lead": ("quality", "min_clip_lead"),
    "outside_change": ("quality", "max_outside_change"),
}

_SCORES = {
    "divergence": "Divergence of the two images (Eq. 1)",
    "detection": "Detector's score of what is replaced",
    "box_divergence": "Divergence of the box alone",
    "selected_before": "Detector's score of what is replaced, in the box",
    "selected_detection": "What is left there of what was replaced",
    "target_detection": "Detector's score of the target, in the edited box",
    "neighbour_ratio": "What is left of other objects that the box touches",
    "clip_lead": "CLIP's lead of the target over what was replaced",
    "outside_change": "Change outside the box, at its worst place",
}


@dataclass(frozen=True)
class Bar:
    """A labelled number and its share of the longest, 0..1."""

    label: str
    count: int
    share: float


@dataclass(frozen=True)
class Step:
    """A stage of the funnel: rows alive before and after it, and what it rejected, by reason."""

    name: str
    about: str
    before: int
    after: int
    reasons: list[tuple[str, int]]


@dataclass(frozen=True)
class Card:
    """A row to look at."""

    row: Row
    input: Thumbnail | None
    edited: Thumbnail | None


@dataclass(frozen=True)
class Reason:
    """A reason for rejection with examples."""

    stage: str
    name: str
    count: int
    cards: list[Card]


def write_page(survey: Survey) -> Place:
    """Write `report.html` into the output that was surveyed; gives its path."""
    page = environment(Path(__file__).parent).get_template(REPORT).render(context(survey))
    path = survey.snapshot.folder / REPORT
    write_file(path, page)
    return path


def context(survey: Survey) -> Mapping[str, Any]:
    """Everything that the template shows."""
    samples = survey.sample(SAMPLES_EACH_PART)
    num_done = sum(survey.count(kind) for kind in KINDS)
    targets = survey.values("target_category")
    return {
        "name": survey.snapshot.folder.name,
        "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "survey": survey,
        "snapshot": survey.snapshot,
        "num_done": num_done,
        "num_accepted": survey.count("accepted"),
        "num_rejected": survey.count("rejected"),
        "parts": _parts(survey),
        "steps": _steps(survey, num_done),
        "same_words": [_card(row) for row in survey.same_words(SAME_WORDS)],
        "samples": [_card(row) for row in samples],
        "sample_seed": SEED,
        "rejections": _rejections(survey),
        "types": _types(survey),
        "replacements": _bars(
            (f"{a} → {b}", n) for (a, b), n in survey.replacements().most_common(MAX_REPLACEMENTS)
        ),
        "num_replacements": len(survey.replacements()),
        "targets": _bars(targets.most_common(MAX_REPLACEMENTS)),
        "num_targets": len(targets),
        "target_warning": few_dominate(targets),
        "histograms": _histograms(survey),
        "timings": survey.timings,
        "pools": _pools(survey.snapshot.pools),
        "slowest": max([t.seconds for t in survey.timings.values()], default=0.0),
        "models": _models(samples),
        "prompts": _prompts(samples),
        "licenses": survey.values("license").most_common(),
        "sources": survey.values("source").most_common(),
        "recipe": yaml.safe_dump(survey.snapshot.recipe, sort_keys=False),
    }


def _pools(times: Mapping[str, PoolTiming]) -> list[tuple[str, float, float]]:
    """Of each pool its name, the seconds of its processes, and the part that they were busy."""
    return [
        (name.replace("+", " + "), total, time.busy_seconds / total)
        for name, time in times.items()
        if (total := time.busy_seconds + time.idle_seconds)
    ]


def _card(row: Row, side: int = SAMPLE_SIDE, max_bytes: int = SAMPLE_BYTES) -> Card:
    return Card(
        row,
        thumbnail(row.get("input_image"), side, max_bytes),
        thumbnail(row.get("edited_image"), side, max_bytes),
    )


def _parts(survey: Survey) -> list[tuple[str, int, int]]:
    """Part, accepted, rejected; parts without rows left out."""
    accepted, rejected = (survey.values("part", kind) for kind in KINDS)
    listed = [(part, accepted[part], rejected[part]) for part in PARTS]
    return [each for each in listed if each[1] + each[2]]


def _steps(survey: Survey, num_rows: int) -> list[Step]:
    steps, alive = [], num_rows
    for name, reasons in survey.lost().items():
        after = alive - sum(reasons.values())
        steps.append(Step(name, _about(name), alive, after, reasons.most_common()))
        alive = after
    return steps


def _about(stage: str) -> str:
    """The recipe's words on a stage's section."""
    field = StagesConfig.model_fields.get(stage)
    section = field.annotation if field else ImagesConfig if stage == "load" else None
    return (section.__doc__ or "").strip().splitlines()[0] if section else ""


def _rejections(survey: Survey) -> list[Reason]:
    reasons, left = [], MAX_REJECTIONS
    for stage, counts in survey.lost().items():
        for name, count in counts.most_common():
            rows = survey.sample_rejected(stage, name, min(REJECTIONS_EACH_REASON, left))
            left -= len(rows)
            cards = [_card(row, REJECTION_SIDE, REJECTION_BYTES) for row in rows]
            reasons.append(Reason(stage, name, count, cards))
    return reasons


def _types(survey: Survey) -> list[Bar]:
    counts = survey.values("reasoning_type")
    return _bars((name, counts[name]) for name in REASONING_TYPES if counts[name])


def _bars(counts: Iterable[tuple[str, int]]) -> list[Bar]:
    listed = list(counts)
    longest = max((count for _, count in listed), default=1)
    return [Bar(label, count, count / longest) for label, count in listed]


def _histograms(survey: Survey) -> list[tuple[str, Any]]:
    charts = []
    for name in survey.score_names():
        section, key = _LIMITS.get(name, ("quality", None))
        limit = survey.snapshot.recipe["stages"][section].get(key) if key else None
        if name == "divergence" and limit is None:
            limit = survey.snapshot.divergence_threshold
        accepted, rejected = (survey.score(name, kind) for kind in KINDS)
        charts.append((_SCORES[name], histogram(accepted, rejected, limit)))
    return charts


def _models(rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    """Stage, model, revision of what took part in the rows."""
    models = {
        (model["stage"], model["name"], model["revision"] or "")
        for row in rows
        for model in row["provenance"].get("models", [])
    }
    return sorted(models)


def _prompts(rows: Iterable[Row]) -> list[tuple[str, str]]:
    prompts = {
        (prompt["name"], prompt["version"])
        for row in rows
        for prompt in row["provenance"].get("prompts", [])
    }
    return sorted(prompts)

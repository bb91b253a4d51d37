"""The record: what a row holds on its way, what is published of it, its id and its randomness.

A row is a plain dict (`Row`); between processes it travels as Arrow with `WORKING_SCHEMA`; what
a run leaves has `ACCEPTED_SCHEMA` or `REJECTED_SCHEMA`. One row in, one row out: nothing here or
anywhere drops a row, `reject` marks it.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypedDict, cast

import pyarrow as pa

Part = Literal["I", "II", "III"]
PARTS: tuple[Part, ...] = ("I", "II", "III")

ReasoningType = Literal["knowledge", "causal", "temporal", "spatial", "logical", "cultural"]
REASONING_TYPES: tuple[ReasoningType, ...] = (
    "knowledge",
    "causal",
    "temporal",
    "spatial",
    "logical",
    "cultural",
)


class Image(TypedDict):
    """An encoded image, as the `datasets` Image feature stores it."""

    bytes: bytes
    path: str | None


class Detection(TypedDict):
    """A category found in the input image: box xyxy in its pixels (EXIF applied), score 0..1."""

    category: str
    box: list[float]
    score: float
    qualifier: NotRequired[str | None]
    """Which of several of the category it is, e.g. "left"; None where there is one."""
    num_instances: NotRequired[int]
    """Of the category in the picture."""
    about: NotRequired[str]
    """Its size, shape and place in words."""


class Scores(TypedDict, total=False):
    """Everything measured of a pair; a field a part does not measure stays null."""

    divergence: float
    """Eq. 1: mean squared difference of RGB 0..1 at the recipe's size."""
    box_divergence: float
    """The same of the box alone."""
    detection: float
    """The score 0..1 of the selected category in the input, of the detector that marked it."""
    selected_before: float
    """Of the detector that checks the pair: the selected category in the box of the input, 0..1;
    null where nothing hangs on it."""
    selected_detection: float
    """Of the same: the selected category in the box of the edited picture, 0..1."""
    target_detection: float
    """Of the same: the target there, 0..1."""
    neighbour_ratio: float
    """Of the same: another object that the box touches, edited picture to input; the least; null
    where all are plain to see."""
    clip_lead: float
    """CLIP's cosine of the edited box with the target, less that with the selected category."""
    outside_change: float
    """Mean absolute RGB difference 0..1 of the most changed place outside the box."""


class Model(TypedDict):
    """A model that took part in a row."""

    stage: str
    name: str
    revision: str | None


class Prompt(TypedDict):
    """A prompt that took part in a row."""

    name: str
    version: str


class Provenance(TypedDict, total=False):
    """How a row came about; enough to make it again."""

    reasonray: str
    recipe_hash: str
    seed: int
    variation: int
    models: list[Model]
    prompts: list[Prompt]


class Row(TypedDict, total=False):
    """One thing to do, then one sample or one rejection.

    The plan fills the first block; `load` the images; each stage says in `reads` and `writes`
    what it needs and adds.
    """

    id: str
    part: Part
    source: str
    source_id: str
    variation: int
    input_uri: str
    """Where the input image lies: a path or URI, or `<parquet>#<row group>/<row>/<column>`."""
    edited_uri: str | None
    root: str | None
    """The source's folder or file, where it is a local path."""
    source_categories: list[str] | None
    """What the source says is in the input image, where the recipe asks for that."""
    license: str | None

    input_image: Image | None
    edited_image: Image | None
    input_caption: str | None
    edited_caption: str | None
    instruction: str | None
    direct_instruction: str | None
    rationale: str | None
    reasoning_type: str | None
    candidates: list[str] | None
    candidate_rationales: list[str] | None
    candidate_reasoning_types: list[str] | None
    categories: list[str] | None
    detections: list[Detection] | None
    selected_category: str | None
    target_category: str | None
    detection_box: list[float] | None
    """The selected category's, as the detector gave it; xyxy as `box`."""
    box: list[float] | None
    """What was repainted: xyxy, whole pixels of the input image, EXIF orientation applied."""
    image_hash: str | None
    """Perceptual hash of the edited image, 64 bits in hexadecimal."""
    scores: Scores
    provenance: Provenance

    stage: str | None
    """None while the row is alive; the stage that rejected it afterwards."""
    reason: str | None
    detail: str | None


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""Arrow's form of `Image`."""

WORKING_IMAGE = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
"""The same with 64-bit offsets: a block may hold more than 2 GiB of pictures, and Ray Data puts
blocks together without asking how much is in a struct."""

_STRINGS = pa.list_(pa.string())
_SCORES = pa.struct([(name, pa.float32()) for name in Scores.__annotations__])
_DETECTION = pa.struct(
    [
        ("category", pa.string()),
        ("box", pa.list_(pa.float32())),
        ("score", pa.float32()),
        ("qualifier", pa.string()),
        ("num_instances", pa.int32()),
        ("about", pa.string()),
    ]
)
_PROVENANCE = pa.struct(
    [
        ("reasonray", pa.string()),
        ("recipe_hash", pa.string()),
        ("seed", pa.int64()),
        ("variation", pa.int32()),
        (
            "models",
            pa.list_(
                pa.struct(
                    [("stage", pa.string()), ("name", pa.string()), ("revision", pa.string())]
                )
            ),
        ),
        ("prompts", pa.list_(pa.struct([("name", pa.string()), ("version", pa.string())]))),
    ]
)

_KEYS = [("id", pa.string()), ("part", pa.string()), ("source", pa.string())]
_KEYS += [("source_id", pa.string())]
_PLAN = [
    ("variation", pa.int32()),
    ("input_uri", pa.string()),
    ("edited_uri", pa.string()),
    ("root", pa.string()),
    ("source_categories", _STRINGS),
]
_SAMPLE = [
    ("input_image", IMAGE),
    ("edited_image", IMAGE),
    ("input_caption", pa.string()),
    ("edited_caption", pa.string()),
    ("instruction", pa.string()),
    ("direct_instruction", pa.string()),
    ("rationale", pa.string()),
    ("reasoning_type", pa.string()),
    ("candidates", _STRINGS),
    ("categories", _STRINGS),
    ("selected_category", pa.string()),
    ("target_category", pa.string()),
    ("box", pa.list_(pa.float32(), 4)),
    ("scores", _SCORES),
    ("provenance", _PROVENANCE),
    ("license", pa.string()),
]
_WORK = [
    ("candidate_rationales", _STRINGS),
    ("candidate_reasoning_types", _STRINGS),
    ("detections", pa.list_(_DETECTION)),
    ("detection_box", pa.list_(pa.float32(), 4)),
    ("image_hash", pa.string()),
]
_REJECTION = [("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())]

PLAN_SCHEMA = pa.schema(
    [
        *_KEYS,
        *_PLAN,
        ("input_caption", pa.string()),
        ("edited_caption", pa.string()),
        ("direct_instruction", pa.string()),
        ("license", pa.string()),
        *_REJECTION,
    ]
)
"""One light row for each thing to do, written before any work starts; rejected already where the
source itself shows that there is nothing to load."""

WORKING_SCHEMA = pa.schema(
    [
        pa.field(field.name, WORKING_IMAGE) if field.type == IMAGE else field
        for field in pa.schema([*_KEYS, *_PLAN, *_SAMPLE, *_WORK, *_REJECTION])
    ]
)
"""What travels between the pools."""

ACCEPTED_SCHEMA = pa.schema([*_KEYS, *_SAMPLE])
REJECTED_SCHEMA = pa.schema([*_KEYS, *_REJECTION, *_SAMPLE])
"""A rejection keeps all that was known of the row when it was rejected."""

DESCRIPTIONS = {
    "id": "stable, from the source's own ids: part/source/source_id/variation",
    "part": "I: an existing pair with a new instruction; II, III: a pair painted here",
    "source": "where the input comes from",
    "source_id": "its id there",
    "stage": "the stage that rejected the row",
    "reason": "a short code",
    "detail": "one sentence that names the file or value",
    "input_image": "the input: the source's own bytes, or a smaller copy of what is larger than "
    "images.max_side; boxes, masks and scores are of this picture",
    "edited_image": "the answer, of the same size; if painted, as `output.edited_format` says",
    "input_caption": "what the input shows",
    "edited_caption": "what the answer shows",
    "instruction": "the reasoning instruction: it never names the target",
    "direct_instruction": "the same edit, said directly",
    "rationale": "one sentence that leads from the instruction to the target",
    "reasoning_type": "knowledge, causal, temporal, spatial, logical or cultural",
    "candidates": "Part I: the instructions that were chosen from",
    "categories": "Parts II and III: what could have been replaced",
    "selected_category": "what is replaced",
    "target_category": "by what",
    "box": "what was repainted: x0, y0, x1, y1, whole pixels of the input as it is shown",
    "scores": "what was measured of the pair; null where a part does not measure it",
    "scores.divergence": "Eq. 1: mean squared difference of RGB 0..1",
    "scores.box_divergence": "the same of the box alone",
    "scores.detection": "the detector's score of the selected category in the input, 0..1",
    "scores.selected_before": "the same in the box, 0..1, by the detector that checks the pair; "
    "null where nothing hangs on it",
    "scores.selected_detection": "its score of the selected category left in the box, 0..1",
    "scores.target_detection": "its score of the target in the edited box, 0..1",
    "scores.neighbour_ratio": "its score of another object that the box touches and the edited "
    "caption names, edited picture to input; the least; null where all are plain to see",
    "scores.clip_lead": "CLIP's cosine of the edited box with the target, less that with the "
    "selected category, -1..1",
    "scores.outside_change": "mean absolute RGB difference 0..1 of the most changed of 16 x 16 "
    "places outside the box",
    "provenance": "models, prompts, recipe and seed: enough to make the row again",
    "license": "of the source",
}
"""What each published field, and each score, holds."""


FAILURES = ("lm_failed", "error")
"""Reasons of rows that failed and were not refused: an unfinished run does them again."""


def reject(row: Row, stage: str, reason: str, detail: str) -> None:
    """Mark a row as rejected, in place; the first rejection stands."""
    if row.get("stage") is None:
        row["stage"], row["reason"], row["detail"] = stage, reason, detail


def is_rejected(row: Row) -> bool:
    """Whether some stage has rejected the row."""
    return row.get("stage") is not None


def add_scores(row: Row, **scores: float) -> None:
    """Add measurements to a row without touching another row's dict."""
    row["scores"] = cast(Scores, {**(row.get("scores") or {}), **scores})


def sample_id(part: Part, source: str, source_id: str, variation: int = 0) -> str:
    """The stable id of one thing to do, from the source's own ids."""
    return f"{part}/{source}/{source_id}/{variation}"


def sample_part(row_id: str) -> str:
    """The part that a sample's id begins with."""
    return row_id.partition("/")[0]


def sample_seed(run_seed: int, row_id: str, stage: str, attempt: int = 0) -> int:
    """The seed of one sample in one stage, 0..2^63-1: nothing else about the run changes it."""
    key = f"{run_seed}\x1f{row_id}\x1f{stage}\x1f{attempt}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def to_table(rows: Iterable[Row], schema: pa.Schema = WORKING_SCHEMA) -> pa.Table:
    """Rows as an Arrow table of exactly `schema`; absent fields are null, others are left out."""
    listed = list(rows)
    columns = {
        field.name: pa.array([row.get(field.name) for row in listed], type=field.type)
        for field in schema
    }
    return pa.table(columns, schema=schema)


def to_rows(table: pa.Table) -> list[Row]:
    """The inverse of `to_table`; null struct members are left out of scores and provenance."""
    rows = cast(list[dict[str, Any]], table.to_pylist())
    for row in rows:
        for name in ("scores", "provenance"):
            row[name] = {k: v for k, v in (row.get(name) or {}).items() if v is not None}
    return cast(list[Row], rows)

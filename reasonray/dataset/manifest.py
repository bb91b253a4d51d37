"""`manifest.json`: what an output holds and how it was made.

It is written last: its existence means that the output is complete.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from reasonray.core.errors import UserError
from reasonray.core.place import Place, place, reached
from reasonray.core.recipe import Recipe, nearest
from reasonray.core.record import ACCEPTED_SCHEMA, PARTS, REJECTED_SCHEMA, Model, Part
from reasonray.core.version import __version__
from reasonray.dataset.targets import common_targets, few_dominate

MANIFEST = "manifest.json"

Kind = Literal["accepted", "rejected"]
KINDS: dict[Kind, pa.Schema] = {"accepted": ACCEPTED_SCHEMA, "rejected": REJECTED_SCHEMA}


class PartCounts(BaseModel):
    """Rows of one part, each either accepted or rejected."""

    inputs: int
    accepted: int
    rejected: int


class StageTiming(BaseModel):
    """Work of one stage, summed over processes and over the runs that made the output.

    Rows that were done again after a kill count again.
    """

    rows: int
    seconds: float
    rows_per_second: float | None

    @classmethod
    def of(cls, rows: int, seconds: float) -> "StageTiming":
        """Rows that a stage worked on, and the seconds that they took, to three decimals."""
        rate = round(rows / seconds, 3) if seconds else None
        return cls(rows=rows, seconds=round(seconds, 3), rows_per_second=rate)


class PoolTiming(BaseModel):
    """Time of one pool's processes, once their models were loaded, summed over processes and runs.

    Where the idle ones of a pool are few beside the others', the others waited for it.
    """

    busy_seconds: float
    """With rows in hand."""
    idle_seconds: float
    """Waiting for rows."""


class RayJob(BaseModel):
    """A job of Ray that worked on the output."""

    job_id: str
    """As Ray's dashboard has it."""
    submission_id: str | None
    """As `ray job submit` gives it; null where the run was not submitted."""


class UsedModel(BaseModel):
    """A model that took part in some row."""

    stage: str
    name: str
    revision: str | None


class Manifest(BaseModel):
    """`manifest.json`: what is in an output and how it was made."""

    model_config = ConfigDict(extra="forbid")

    inputs: int
    accepted: int
    rejected: int
    parts: dict[str, PartCounts]
    rejections: dict[str, dict[str, int]]
    """Stage -> reason -> rows."""
    distinct_instructions: int
    distinct_targets: int = 0
    common_targets: dict[str, int] = {}
    """The commonest targets -> accepted rows."""
    target_warning: str | None = None
    """Where few targets dominate."""
    models: list[UsedModel]
    reasonray: str
    recipe_hash: str
    divergence_threshold: float | None
    """What the rank form of Eq. 1 came to."""
    seconds: float
    """Wall time, summed over the runs that made the output."""
    stages: dict[str, StageTiming]
    pools: dict[str, PoolTiming] = {}
    """The names of a pool's stages, joined by + -> its time."""
    jobs: list[RayJob] = []
    """Those that made the output, one after another."""
    warnings: list[str] = []
    """What the user was told of the inputs: what was passed over and how much, models that do not
    know such pictures."""
    shards: dict[Kind, list[str]] = {}
    """The Parquet files of each kind, in order; of earlier versions all that lie in its folder."""
    recipe: dict[str, Any]


def read_manifest(output: str | Place) -> Manifest | None:
    """The manifest of a complete output; None when it is not complete.

    Raises:
        UserError: the file is another program's, or the store refuses.
    """
    folder = place(output)
    try:
        with reached(folder):
            path = folder / MANIFEST
            if not path.exists():
                return None
            return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"output {output}: its {MANIFEST} was not made by reasonray") from error


def complete_manifest(output: str | Place) -> Manifest:
    """The manifest of an output that must be complete.

    Raises:
        UserError: there is no complete output.
    """
    manifest = read_manifest(output)
    if manifest is None:
        raise UserError(f"{output}: no complete output of reasonray (no {MANIFEST})")
    return manifest


def selected(output: str | Place, parts: Sequence[str] | None) -> tuple[Manifest, list[Part]]:
    """A complete output's manifest, and the parts that are asked for, in their order.

    Args:
        output: a folder or the URI of one.
        parts: of I, II and III; None: all that there are.

    Raises:
        UserError: an unknown part, the output is not complete, or no sample of any was accepted.
    """
    words = [parts] if isinstance(parts, str) else parts
    for word in words or ():
        if word not in PARTS:
            raise UserError(f"parts {word}: unknown{nearest(word, PARTS)}")
    manifest = complete_manifest(output)
    chosen = [part for part in PARTS if part in manifest.parts and (not words or part in words)]
    if not sum(manifest.parts[part].accepted for part in chosen):
        raise UserError(f"{output}: no accepted samples of part {', '.join(words or PARTS)}")
    return manifest, chosen


class Summary:
    """What is counted of rows on their way into the shards; those of several shards add up."""

    def __init__(self) -> None:
        self.parts: Counter[tuple[str, Kind]] = Counter()
        self.rejections: Counter[tuple[str, str]] = Counter()
        self.models: set[tuple[str, str, str | None]] = set()
        self.licenses: Counter[str] = Counter()
        self.targets: Counter[str] = Counter()
        self.instructions: list[NDArray[np.uint64]] = []  # their hashes, some more than once

    COLUMNS: ClassVar = {
        "accepted": ["part", "instruction", "target_category", "license", "provenance"],
        "rejected": ["part", "stage", "reason", "provenance"],
    }
    """What is looked at of the rows of a kind."""

    def add(self, table: pa.Table, kind: Kind) -> None:
        """Count a table of published rows; of its columns `COLUMNS` are needed."""
        for part, count in _counted(table, "part"):
            self.parts[part, kind] += count
        if kind == "rejected":
            for stage, reason, count in _counted(table, "stage", "reason"):
                self.rejections[stage, reason] += count
        else:
            texts = pc.unique(table["instruction"].drop_null()).to_pylist()
            digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
            self.instructions.append(np.frombuffer(b"".join(digests), np.uint64))
            for name, count in _counted(table, "target_category"):
                if name is not None:
                    self.targets[name] += count
            for name, count in _counted(table, "license"):
                self.licenses[name or "not stated"] += count
        models = pc.list_flatten(pc.struct_field(table["provenance"], "models"))
        names = list(Model.__annotations__)
        flat = pa.table({name: pc.struct_field(models, name) for name in names})
        distinct = flat.group_by(names).aggregate([])
        self.models.update(zip(*(distinct[name].to_pylist() for name in names), strict=True))

    def merge(self, other: "Summary") -> None:
        """Add what was counted of other rows."""
        self.parts += other.parts
        self.rejections += other.rejections
        self.models |= other.models
        self.licenses += other.licenses
        self.targets += other.targets
        self.instructions += other.instructions

    @property
    def num_instructions(self) -> int:
        """Different instructions of accepted rows."""
        return len(np.unique(np.concatenate([np.empty(0, np.uint64), *self.instructions])))

    def total(self, kind: Kind) -> int:
        """Rows of a kind."""
        return sum(count for (_, of_kind), count in self.parts.items() if of_kind == kind)


def _by_name(model: tuple[str, str, str | None]) -> tuple[str, str, str]:
    stage, name, revision = model
    return name, revision or "", stage


def _counted(table: pa.Table, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The different values of columns, each with the number of its rows."""
    counted = table.select(columns).group_by(list(columns)).aggregate([([], "count_all")])
    return zip(*(counted[name].to_pylist() for name in (*columns, "count_all")), strict=True)


def make_manifest(
    recipe: Recipe,
    summary: Summary,
    *,
    threshold: float | None,
    seconds: float,
    timings: dict[str, StageTiming],
    pools: dict[str, PoolTiming] | None = None,
    jobs: Sequence[RayJob] = (),
    warnings: Sequence[str] = (),
    shards: Mapping[Kind, list[str]] | None = None,
) -> Manifest:
    """The manifest of rows that were published."""
    rejections: dict[str, dict[str, int]] = {}
    for (stage, reason), count in sorted(summary.rejections.items()):
        rejections.setdefault(stage, {})[reason] = count
    parts = {}
    for part in PARTS:
        accepted, rejected = summary.parts[part, "accepted"], summary.parts[part, "rejected"]
        if accepted + rejected:
            parts[part] = PartCounts(
                inputs=accepted + rejected, accepted=accepted, rejected=rejected
            )
    accepted, rejected = summary.total("accepted"), summary.total("rejected")
    return Manifest(
        inputs=accepted + rejected,
        accepted=accepted,
        rejected=rejected,
        parts=parts,
        rejections=rejections,
        distinct_instructions=summary.num_instructions,
        distinct_targets=len(summary.targets),
        common_targets=common_targets(summary.targets),
        target_warning=few_dominate(summary.targets),
        models=[
            UsedModel(stage=stage, name=name, revision=revision)
            for stage, name, revision in sorted(summary.models, key=_by_name)
        ],
        reasonray=__version__,
        recipe_hash=recipe.hash(),
        divergence_threshold=threshold,
        seconds=round(seconds, 3),
        stages=timings,
        pools=pools or {},
        jobs=list(jobs),
        warnings=list(warnings),
        shards=dict(shards or {}),
        recipe=recipe.model_dump(mode="json"),
    )

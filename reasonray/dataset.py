"""What a run leaves: shards of accepted and rejected rows, their manifest, a card; and reading it.

`manifest.json` is written last: its existence means that the output is complete.
"""

import hashlib
import json
import shutil
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from reasonray.core.version import __version__
from reasonray.errors import RunError, UserError
from reasonray.recipe import OutputConfig, Recipe, nearest
from reasonray.record import (
    ACCEPTED_SCHEMA,
    IMAGE,
    PARTS,
    REJECTED_SCHEMA,
    Model,
    Part,
    Row,
    to_rows,
)
from reasonray.workspace import Work, Workspace, publish

MANIFEST = "manifest.json"
NEAR_DUPLICATE = "near_duplicate"
MAX_HASH_BITS = 4
"""Two edits of one input whose 64-bit perceptual hashes differ in at most so many bits show the
same picture (imagehash's authors call up to 5 near-identical; independent pictures differ in 32).
"""

Kind = Literal["accepted", "rejected"]
KINDS: dict[Kind, pa.Schema] = {"accepted": ACCEPTED_SCHEMA, "rejected": REJECTED_SCHEMA}

_INDEX = ["id", "part", "source", "source_id", "variation", "image_hash"]
_INDEX += ["stage", "reason"]
_OPEN_FILES = 8
_BATCH_ROWS = 16


class PartCounts(BaseModel):
    """Of one part."""

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
    models: list[UsedModel]
    reasonray: str
    recipe_hash: str
    divergence_threshold: float | None
    """What the rank form of Eq. 1 came to."""
    seconds: float
    """Wall time, summed over the runs that made the output."""
    stages: dict[str, StageTiming]
    recipe: dict[str, Any]


def manifest(output: str | Path) -> Manifest | None:
    """The manifest of a complete output; None when it is not complete.

    Raises:
        UserError: the file is another program's.
    """
    path = Path(output) / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"output {output}: its {MANIFEST} was not made by reasonray") from error


def complete(output: str | Path) -> Manifest:
    """The manifest of an output that must be complete.

    Raises:
        UserError: there is no complete output.
    """
    found = manifest(output)
    if found is None:
        raise UserError(f"{output}: no complete output of reasonray (no {MANIFEST})")
    return found


def selected(output: str | Path, parts: Sequence[str] | None) -> tuple[Manifest, list[Part]]:
    """A complete output's manifest, and the parts that are asked for, in their order.

    Args:
        output: a folder.
        parts: of I, II and III; None: all that there are.

    Raises:
        UserError: an unknown part, the output is not complete, or no sample of any was accepted.
    """
    words = [parts] if isinstance(parts, str) else parts
    for word in words or ():
        if word not in PARTS:
            raise UserError(f"parts {word}: unknown{nearest(word, PARTS)}")
    manifest = complete(output)
    chosen = [part for part in PARTS if part in manifest.parts and (not words or part in words)]
    if not sum(manifest.parts[part].accepted for part in chosen):
        raise UserError(f"{output}: no accepted samples of part {', '.join(words or PARTS)}")
    return manifest, chosen


def read(output: str | Path, kind: Kind = "accepted") -> Iterator[dict[str, Any]]:
    """Iterate an output's records, by id, with `input_image` and `edited_image` as PIL images.

    Args:
        output: the folder of a complete run.
        kind: accepted samples, or rejections with what was known of them.

    Yields:
        The record's fields; an image that could not be read is None.

    Raises:
        UserError: there is no complete output.
    """
    complete(output)
    return map(_record, rows(output, kind))


def rows(output: str | Path, kind: Kind = "accepted") -> Iterator[Row]:
    """Iterate a complete output's rows, by id, with their images as encoded there."""
    for path in sorted((Path(output) / kind).glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH_ROWS):
            yield from to_rows(pa.Table.from_batches([batch]))


def audit(work: Work, planned: pa.Array) -> pa.Table:
    """Check that each planned id is there exactly once.

    Returns:
        Of every row its keys, `kind`, `file` (index into `work.committed_files()`) and `row`,
        sorted by id.

    Raises:
        RunError: an id is missing, doubled or not of this plan.
    """
    tables = []
    for index, path in enumerate(work.committed_files()):
        table = pq.ParquetFile(path).read(columns=_INDEX)
        kind = path.parent.name.removeprefix("status=")
        table = table.append_column("kind", pa.array([kind] * table.num_rows, pa.string()))
        table = table.append_column("file", pa.array([index] * table.num_rows, pa.int64()))
        tables.append(table.append_column("row", pa.array(range(table.num_rows), pa.int64())))
    if not tables:
        raise RunError(f"output {work.rows}: no finished rows for {len(planned)} planned ones")
    found = pa.concat_tables(tables).combine_chunks()
    found = found.take(pc.sort_indices(found["id"]))
    ids = found["id"].combine_chunks()
    if not ids.equals(planned):
        counts = Counter(ids.to_pylist())
        wanted = set(planned.to_pylist())
        missing = sorted(wanted - counts.keys())
        doubled = sorted(row_id for row_id, count in counts.items() if count > 1)
        strange = sorted(counts.keys() - wanted)
        raise RunError(
            f"output {work.rows}: {len(missing)} planned rows are missing {missing[:3]}, "
            f"{len(doubled)} are doubled {doubled[:3]}, {len(strange)} are not planned "
            f"{strange[:3]}; nothing was published"
        )
    return found


def near_duplicates(index: pa.Table) -> dict[str, str]:
    """Accepted edits that look like another one of the same input.

    Args:
        index: what `audit` gives.

    Returns:
        The id of each such row -> the id of the variation that stays, the lowest. Part I has
        one edit for all variations, which differ in their instruction: none of it is returned.
    """
    groups: dict[tuple[str, str, str], list[tuple[int, str, int]]] = {}
    for row in index.select([*_INDEX, "kind"]).to_pylist():
        if row["kind"] == "accepted" and row["part"] != "I" and row["image_hash"]:
            key = (row["part"], row["source"], row["source_id"])
            seen = (row["variation"], row["id"], int(row["image_hash"], 16))
            groups.setdefault(key, []).append(seen)
    duplicates: dict[str, str] = {}
    for members in groups.values():
        kept: list[tuple[str, int]] = []
        for _, row_id, bits in sorted(members):
            near = [k for k, other in kept if (bits ^ other).bit_count() <= MAX_HASH_BITS]
            if near:
                duplicates[row_id] = near[0]
            else:
                kept.append((row_id, bits))
    return duplicates


class Summary:
    """What is counted while rows pass by on their way into the shards."""

    def __init__(self) -> None:
        self.parts: Counter[tuple[str, Kind]] = Counter()
        self.rejections: Counter[tuple[str, str]] = Counter()
        self.models: dict[str, Model] = {}
        self.licenses: Counter[str] = Counter()
        self.instructions: set[bytes] = set()

    def add(self, table: pa.Table, kind: Kind) -> None:
        """Count a table of published rows."""
        for count in pc.value_counts(table["part"]).to_pylist():
            self.parts[count["values"], kind] += count["counts"]
        if kind == "rejected":
            pairs = zip(table["stage"].to_pylist(), table["reason"].to_pylist(), strict=True)
            self.rejections.update(pairs)
        else:
            for text in table["instruction"].to_pylist():
                if text is not None:
                    self.instructions.add(hashlib.blake2b(text.encode(), digest_size=8).digest())
            self.licenses.update(name or "not stated" for name in table["license"].to_pylist())
        for provenance in table["provenance"].to_pylist():
            for model in (provenance or {}).get("models") or []:
                self.models[json.dumps(model, sort_keys=True)] = model

    def total(self, kind: Kind) -> int:
        """Rows of a kind."""
        return sum(count for (_, of_kind), count in self.parts.items() if of_kind == kind)


def write_shards(workspace: Workspace, work: Work, config: OutputConfig) -> Summary:
    """Check all rows, put them in order into `accepted/` and `rejected/`.

    Raises:
        RunError: a row is missing or doubled; nothing is published then.
    """
    index = audit(work, workspace.planned_ids())
    duplicates = near_duplicates(index)
    files = work.committed_files()
    summary = Summary()
    made = workspace.folder / "publishing"
    shutil.rmtree(made, ignore_errors=True)
    is_duplicate = pc.is_in(index["id"], value_set=pa.array(duplicates, pa.string()))
    is_accepted = pc.and_(pc.equal(index["kind"], "accepted"), pc.invert(is_duplicate))
    chosen: dict[Kind, pa.Array] = {"accepted": is_accepted, "rejected": pc.invert(is_accepted)}
    for kind, mask in chosen.items():
        shards = Shards(made / kind, with_image_features(KINDS[kind]), config)
        for table in _gather(files, index.filter(mask), config.row_group_rows):
            full = _mark(table, duplicates) if kind == "rejected" else table
            summary.add(full, kind)
            shards.write(full)
        shards.close()
    for kind in KINDS:
        publish(made / kind, workspace.output / kind)
    made.rmdir()
    return summary


def make_manifest(
    recipe: Recipe,
    summary: Summary,
    *,
    threshold: float | None,
    seconds: float,
    timings: dict[str, StageTiming],
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
        distinct_instructions=len(summary.instructions),
        models=[UsedModel(**summary.models[key]) for key in sorted(summary.models)],
        reasonray=__version__,
        recipe_hash=recipe.hash(),
        divergence_threshold=threshold,
        seconds=round(seconds, 3),
        stages=timings,
        recipe=recipe.model_dump(mode="json"),
    )


def _record(row: Row) -> dict[str, Any]:
    from reasonray import images

    record: dict[str, Any] = dict(row)
    for name in ("input_image", "edited_image"):
        if record[name] is not None and record[name]["bytes"]:
            record[name] = images.decode(record[name])
    return record


def with_image_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the note by which `datasets` and the Hub show the images."""
    features = {field.name: {"_type": "Image"} for field in schema if field.type == IMAGE}
    note = json.dumps({"info": {"features": features}})
    return schema.with_metadata({"huggingface": note})


def _gather(files: list[Path], index: pa.Table, num_rows: int) -> Iterator[pa.Table]:
    """Full rows in the index's order, so many at a time.

    Neighbours mostly lie in one file: the plan is sorted, and a block is a stretch of it.
    """
    opened: OrderedDict[int, pa.Table] = OrderedDict()
    for start in range(0, index.num_rows, num_rows):
        piece = index.slice(start, num_rows)
        runs: list[tuple[int, list[int]]] = []
        for file, row in zip(piece["file"].to_pylist(), piece["row"].to_pylist(), strict=True):
            if not runs or runs[-1][0] != file:
                runs.append((file, []))
            runs[-1][1].append(row)
        tables = []
        for file, rows in runs:
            if file not in opened:
                opened[file] = pq.ParquetFile(files[file]).read()
                if len(opened) > _OPEN_FILES:
                    opened.popitem(last=False)
            opened.move_to_end(file)
            tables.append(opened[file].take(rows))
        yield pa.concat_tables(tables)


def _mark(table: pa.Table, duplicates: dict[str, str]) -> pa.Table:
    """Give near-duplicates their reason."""
    ids = table["id"].to_pylist()
    if not any(row_id in duplicates for row_id in ids):
        return table
    for name in ("stage", "reason", "detail"):
        values = table[name].to_pylist()
        for place, row_id in enumerate(ids):
            if row_id in duplicates:
                values[place] = {
                    "stage": "quality",
                    "reason": NEAR_DUPLICATE,
                    "detail": f"the edited image looks like that of {duplicates[row_id]}",
                }[name]
        column = table.schema.get_field_index(name)
        table = table.set_column(column, name, pa.array(values, pa.string()))
    return table


class Shards:
    """Parquet files of about the configured size in one folder; at least one, if empty."""

    def __init__(self, folder: Path, schema: pa.Schema, config: OutputConfig) -> None:
        self._folder, self._schema = folder, schema
        self._max_bytes = config.shard_mb * 1_000_000
        self._number = self._bytes = 0
        folder.mkdir(parents=True)
        self._writer = self._open()

    def write(self, table: pa.Table) -> None:
        """Add one row group."""
        if self._bytes >= self._max_bytes:
            self._writer.close()
            self._number, self._bytes = self._number + 1, 0
            self._writer = self._open()
        # Selected and retyped: the schema's metadata is part of its type here.
        table = table.select(self._schema.names).cast(self._schema)
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._bytes += table.nbytes

    def close(self) -> None:
        """Finish the last file."""
        self._writer.close()

    def _open(self) -> pq.ParquetWriter:
        return pq.ParquetWriter(self._folder / f"{self._number:05}.parquet", self._schema)

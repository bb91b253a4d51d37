"""From finished rows to the shards of an output: checked, put in order, near-duplicates marked."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from reasonray.core.errors import RunError
from reasonray.core.place import files, parquet, remove
from reasonray.core.sections import OutputConfig
from reasonray.core.session import Session
from reasonray.core.writing import synchronise
from reasonray.dataset.manifest import KINDS, Kind, Summary
from reasonray.dataset.shards import Shards, with_image_features
from reasonray.generation.plan import candidate_ids, planned_ids
from reasonray.generation.work import Work
from reasonray.generation.workspace import Workspace

NEAR_DUPLICATE = "near_duplicate"
MAX_HASH_BITS = 4
"""Two edits of one input whose 64-bit perceptual hashes differ in at most so many bits show the
same picture (imagehash's authors call up to 5 near-identical; independent pictures differ in 32).
"""

_INDEX = ["id", "part", "source", "source_id", "variation", "image_hash"]
_INDEX += ["stage", "reason"]
_OPEN_FILES = 8


def audit(work: Work, index: pa.Table, planned: pa.Array) -> pa.Table:
    """Check that each planned id is there exactly once.

    Args:
        work: where the rows lie.
        index: of all that are finished.
        planned: ids, sorted.

    Returns:
        Of every row its keys, `status`, and as in the work's index `file` and `row`, sorted by id.

    Raises:
        RunError: an id is missing, doubled or not of this plan.
    """
    if not index.num_rows:
        raise RunError(f"output {work.output}: no finished rows for {len(planned)} planned ones")
    rows = work.read(index, _INDEX)
    rows = rows.take(pc.sort_indices(rows["id"])).combine_chunks()
    index = index.take(pc.sort_indices(index["id"]))
    for name in ("status", "file", "row"):
        rows = rows.append_column(name, index[name])
    ids = rows["id"].combine_chunks()
    if not ids.equals(planned):
        counts = Counter(ids.to_pylist())
        expected = set(planned.to_pylist())
        missing = sorted(expected - counts.keys())
        doubled = sorted(row_id for row_id, count in counts.items() if count > 1)
        strange = sorted(counts.keys() - expected)
        raise RunError(
            f"output {work.output}: {len(missing)} planned rows are missing {missing[:3]}, "
            f"{len(doubled)} are doubled {doubled[:3]}, {len(strange)} are not planned "
            f"{strange[:3]}; nothing was published"
        )
    return rows


def near_duplicates(index: pa.Table) -> dict[str, str]:
    """Accepted edits that look like another one of the same input.

    Args:
        index: what `audit` gives.

    Returns:
        The id of each such row -> the id of the variation that stays, the lowest. Part I has
        one edit for all variations, which differ in their instruction: none of it is returned.
    """
    groups: dict[tuple[str, str, str], list[tuple[int, str, int]]] = {}
    for row in index.select([*_INDEX, "status"]).to_pylist():
        if row["status"] == "accepted" and row["part"] != "I" and row["image_hash"]:
            key = (row["part"], row["source"], row["source_id"])
            member = (row["variation"], row["id"], int(row["image_hash"], 16))
            groups.setdefault(key, []).append(member)
    duplicates: dict[str, str] = {}
    for members in groups.values():
        distinct: list[tuple[str, int]] = []
        for _, row_id, bits in sorted(members):
            near = [name for name, other in distinct if (bits ^ other).bit_count() <= MAX_HASH_BITS]
            if near:
                duplicates[row_id] = near[0]
            else:
                distinct.append((row_id, bits))
    return duplicates


@dataclass(frozen=True)
class Judged:
    """All finished rows, and what becomes of them.

    Attributes:
        index: as `audit` gives it, with `is_accepted`.
        duplicates: as `near_duplicates` gives them.
    """

    index: pa.Table
    duplicates: dict[str, str]

    @property
    def num_accepted(self) -> int:
        """Samples among them."""
        return int(pc.sum(self.index["is_accepted"]).as_py() or 0)

    def first(self, num_accepted: int, candidates: pa.Array) -> "Judged":
        """Those up to and with so many samples; all of them where there are no more.

        Args:
            num_accepted: at least 1.
            candidates: ids in the order in which they count.
        """
        places = pc.index_in(self.index["id"], value_set=candidates).combine_chunks()
        accepted = places.filter(self.index["is_accepted"].combine_chunks())
        if len(accepted) < num_accepted:
            return self
        last = accepted.take(pc.sort_indices(accepted))[num_accepted - 1]
        return replace(self, index=self.index.filter(pc.less_equal(places, last)))


def judged(workspace: Workspace, work: Work, index: pa.Table) -> Judged:
    """The finished rows of a whole plan.

    Args:
        workspace: of the output.
        work: where the rows lie.
        index: of all that are finished.

    Raises:
        RunError: a row is missing or doubled.
    """
    index = audit(work, index, planned_ids(workspace))
    duplicates = near_duplicates(index)
    is_duplicate = pc.is_in(index["id"], value_set=pa.array(duplicates, pa.string()))
    is_accepted = pc.equal(index["status"].cast(pa.string()), "accepted")
    is_accepted = pc.and_(is_accepted, pc.invert(is_duplicate))
    return Judged(index.append_column("is_accepted", is_accepted), duplicates)


def write_shards(
    workspace: Workspace,
    session: Session,
    work: Work,
    finished: pa.Table,
    config: OutputConfig,
    num_accepted: int | None = None,
) -> tuple[Summary, dict[Kind, list[str]]]:
    """Check all rows, put them in order into `accepted/` and `rejected/`.

    Args:
        workspace: of the output.
        session: whose name the shards bear: what another one leaves there is not of the dataset.
        work: where the rows lie.
        finished: the index of every planned row.
        config: of the shards.
        num_accepted: rows beyond so many samples are left out; None: there is no such number.

    Returns:
        What is counted, and the shards of each kind, as the manifest names them.

    Raises:
        RunError: a row is missing or doubled; nothing is published then.
    """
    rows = judged(workspace, work, finished)
    if num_accepted is not None:
        rows = rows.first(num_accepted, candidate_ids(workspace))
    index, duplicates = rows.index, rows.duplicates
    summary = Summary()
    names: dict[Kind, list[str]] = {}
    is_accepted = index["is_accepted"]
    masks: dict[Kind, pa.Array] = {"accepted": is_accepted, "rejected": pc.invert(is_accepted)}
    for kind, mask in masks.items():
        folder = workspace.output / kind
        schema = with_image_features(KINDS[kind])
        shards = Shards(folder, schema, config, prefix=f"{session.name}-")
        for table in _gather(work, index.filter(mask), config.row_group_rows):
            full = _mark(table, duplicates) if kind == "rejected" else table
            summary.add(full, kind)
            shards.write(full)
        shards.close()
        names[kind] = [f"{kind}/{name}" for name in shards.names]
        for path in files(folder):
            if path.name not in shards.names:
                remove(path)  # of a session that ended before it could publish
            elif isinstance(path, Path):
                synchronise(path)
    return summary, names


def _gather(work: Work, index: pa.Table, num_rows: int) -> Iterator[pa.Table]:
    """Full rows in the index's order, so many at a time.

    Neighbours mostly lie in one file: the plan is sorted, and a block is a stretch of it.
    """
    opened: OrderedDict[str, pa.Table] = OrderedDict()
    for start in range(0, index.num_rows, num_rows):
        piece = index.slice(start, num_rows)
        runs: list[tuple[str, list[int]]] = []
        for file, row in zip(piece["file"].to_pylist(), piece["row"].to_pylist(), strict=True):
            if not runs or runs[-1][0] != file:
                runs.append((file, []))
            runs[-1][1].append(row)
        tables = []
        for file, rows in runs:
            if file not in opened:
                opened[file] = parquet(work.root / file).read()
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

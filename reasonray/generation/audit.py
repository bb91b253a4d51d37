"""All finished rows of a plan: none missing, none twice, near-duplicates marked; in Arrow alone.

What is held of a row is its id, its keys and where it lies: some 200 bytes, whatever its pictures.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonray.core.errors import RunError
from reasonray.generation.plan import planned_ids
from reasonray.generation.plan_order import input_numbers
from reasonray.generation.work import Work
from reasonray.generation.workspace import Workspace

NEAR_DUPLICATE = "near_duplicate"
MAX_HASH_BITS = 4
"""Two edits of one input whose 64-bit perceptual hashes differ in at most so many bits show the
same picture (imagehash's authors call up to 5 near-identical; independent pictures differ in 32).
"""

_KEYS = ["part", "source", "source_id"]

_DIGITS = np.zeros(256, np.uint64)
_DIGITS[[*b"0123456789abcdef"]] = range(16)


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


def judged(workspace: Workspace, work: Work) -> Judged:
    """The finished rows of a plan, in its order.

    Args:
        workspace: of the output.
        work: every planned row, finished.

    Raises:
        RunError: a row is missing or doubled.
    """
    index = audit(work, planned_ids(workspace))
    duplicates = near_duplicates(index)
    is_duplicate = pc.is_in(index["id"], value_set=pa.array(duplicates, pa.string()))
    is_accepted = pc.and_(_is_accepted(index), pc.invert(is_duplicate))
    return Judged(index.append_column("is_accepted", is_accepted), duplicates)


def audit(work: Work, planned: pa.Array) -> pa.Table:
    """Check that each planned id is there exactly once.

    Args:
        work: every planned row, finished.
        planned: every id, in the order of the plan.

    Returns:
        Of every row `id`, `status`, `file` and `row` as in the work's index, its keys, `image_hash`
        and `image_bytes`, in the order of the plan.

    Raises:
        RunError: an id is missing, doubled or not of this plan.
    """
    index = work.index().select(["id", "status", "file", "row"])
    if not index.num_rows:
        raise RunError(f"output {work.output}: no finished rows for {len(planned)} planned ones")
    places = pc.index_in(index["id"], value_set=planned).combine_chunks()
    is_whole = index.num_rows == len(planned) and not places.null_count
    if not is_whole or np.bincount(places.to_numpy()).max() > 1:
        raise RunError(f"output {work.output}: {_amiss(index['id'], planned)}")
    index = index.take(pa.array(np.argsort(places.to_numpy())))
    rows = work.read(index, [*_KEYS, "variation", "image_hash", "image_bytes"])
    for name in rows.column_names:
        index = index.append_column(name, rows[name])
    return index


def near_duplicates(index: pa.Table) -> dict[str, str]:
    """Accepted edits that look like another one of the same input.

    Args:
        index: what `audit` gives.

    Returns:
        The id of each such row -> the id of the variation that stays, the lowest. Part I has
        one edit for all variations, which differ in their instruction: none of it is returned.
    """
    is_painted = pc.and_(_is_accepted(index), pc.not_equal(_text(index["part"]), "I"))
    is_painted = pc.and_(is_painted, pc.is_valid(index["image_hash"]))
    rows = index.select(["id", *_KEYS, "variation", "image_hash"]).filter(is_painted)
    inputs = input_numbers(rows)
    # Only of inputs with several such edits.
    is_several = np.bincount(inputs)[inputs] > 1 if len(inputs) else np.empty(0, bool)
    rows, inputs = rows.filter(pa.array(is_several)), inputs[is_several]
    order = np.lexsort((rows["variation"].to_numpy(), inputs))
    inputs, hashes = inputs[order], _hashes(rows["image_hash"])[order]
    starts = np.flatnonzero(_with_a_near_one(inputs, hashes))
    duplicates: dict[str, str] = {}
    for start in starts.tolist():
        stop = int(np.searchsorted(inputs, inputs[start], side="right"))
        ids = rows["id"].take(pa.array(order[start:stop])).to_pylist()
        distinct: list[tuple[str, int]] = []
        for row_id, bits in zip(ids, hashes[start:stop].tolist(), strict=True):
            near = [name for name, other in distinct if (bits ^ other).bit_count() <= MAX_HASH_BITS]
            if near:
                duplicates[row_id] = near[0]
            else:
                distinct.append((row_id, bits))
    return duplicates


def _with_a_near_one(inputs: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Of rows in the order of their inputs the first of each input that has two alike."""
    is_first: NDArray[np.bool_] = np.diff(inputs, prepend=-1) != 0
    has_near = np.zeros(int(is_first.sum()), bool)
    groups = np.cumsum(is_first) - 1
    for distance in range(1, int(np.bincount(groups).max()) if len(groups) else 0):
        is_pair = inputs[distance:] == inputs[:-distance]
        bits = np.bitwise_count(hashes[distance:] ^ hashes[:-distance])
        has_near[groups[distance:][is_pair & (bits <= MAX_HASH_BITS)]] = True
    is_first[is_first] = has_near
    return is_first


def _hashes(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """64-bit hashes from 16 hexadecimal digits."""
    padded = pc.utf8_lpad(_text(column), 16, padding="0")
    digits = padded.cast(pa.binary(16)).combine_chunks()
    _, content = digits.buffers()
    codes = np.frombuffer(content, np.uint8, len(digits) * 16, digits.offset * 16)
    hashes = np.zeros(len(digits), np.uint64)
    for column_codes in _DIGITS[codes.reshape(-1, 16)].T:
        hashes = hashes << np.uint64(4) | column_codes
    return hashes


def _is_accepted(index: pa.Table) -> pa.ChunkedArray:
    return pc.equal(_text(index["status"]), "accepted")


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string())


def _amiss(ids: pa.ChunkedArray, planned: pa.Array) -> str:
    counts = Counter(ids.to_pylist())
    expected = set(planned.to_pylist())
    missing = sorted(expected - counts.keys())
    doubled = sorted(row_id for row_id, count in counts.items() if count > 1)
    strange = sorted(counts.keys() - expected)
    return (
        f"{len(missing)} planned rows are missing {missing[:3]}, {len(doubled)} are doubled "
        f"{doubled[:3]}, {len(strange)} are not planned {strange[:3]}; nothing was published"
    )

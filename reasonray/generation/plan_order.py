"""In which order rows are planned: by id, the parts woven together; or as a sample takes them.

Rows stay where they are, in one table; orders are arrays of places in it.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonray.core.errors import UserError
from reasonray.core.record import sample_id
from reasonray.sources.sampling import order

Places = NDArray[np.int64]

_INPUT = ["part", "source", "source_id"]
_AT_ONCE = 50_000


def by_id(table: pa.Table) -> Places:
    """The places of all rows, sorted by id.

    Raises:
        UserError: two have the same.
    """
    ids = table["id"].combine_chunks()
    places = pc.sort_indices(ids)
    if len(ids) > 1:
        sorted_ids = ids.take(places)
        same = pc.equal(sorted_ids.slice(1), sorted_ids.slice(0, len(ids) - 1))
        if pc.any(same).as_py():
            twice = sorted_ids[pc.index(same, True).as_py()].as_py()
            raise UserError(f"two inputs have the same id {twice}; give each source once")
    order_by_id: Places = places.to_numpy().astype(np.int64)
    return order_by_id


def as_sampled(table: pa.Table, seed: int) -> Places:
    """The places of all rows in the order of samples; an input's variations follow each other.

    Args:
        table: in whatever order.
        seed: of the run.
    """
    numbers = input_numbers(table)
    firsts = np.unique(numbers, return_index=True)[1]

    def inputs() -> Iterator[tuple[str, str]]:
        for start in range(0, len(firsts), _AT_ONCE):
            some = table.select(_INPUT).take(pa.array(firsts[start : start + _AT_ONCE]))
            for part, source, source_id in zip(*(c.to_pylist() for c in some.columns), strict=True):
                yield f"{part}/{source}", sample_id(part, source, source_id)

    ranks = np.empty(len(firsts), np.int64)
    ranks[order(inputs(), seed)] = np.arange(len(firsts))
    places: Places = np.lexsort((table["variation"].to_numpy(), ranks[numbers]))
    return places


def woven(table: pa.Table, places: Places) -> Places:
    """Some places in the order of the plan: the rows of each part as they are, evenly spread.

    Args:
        table: of all rows.
        places: in it, sorted by id.
    """
    parts = pc.dictionary_encode(table["part"]).combine_chunks().indices.to_numpy()[places]
    shares = np.empty(len(places))
    for part in np.unique(parts):
        those = np.flatnonzero(parts == part)
        shares[those] = (np.arange(len(those)) + 0.5) / len(those)
    in_order: Places = places[np.argsort(shares, kind="stable")]
    return in_order


def input_numbers(table: pa.Table) -> Places:
    """Of each row the number of its input, 0 to one less than there are inputs."""
    numbers = np.zeros(table.num_rows, np.int64)
    for name in _INPUT:
        codes = pc.dictionary_encode(table[name].cast(pa.string())).combine_chunks()
        numbers = numbers * max(len(codes.dictionary), 1) + codes.indices.to_numpy()
        # Renumbered each time, so that the product never grows too large.
        numbers = np.unique(numbers, return_inverse=True)[1]
    return numbers

"""A sample of the inputs, drawn by the run's seed and their ids: `limit` and `accepted`.

Each stratum (a part of a source) is put in an order by a hash of the seed and the inputs' ids, and
the strata are woven together, each evenly over the whole: every beginning of this order has of each
stratum its share, and is the sample of its size. So a larger sample has a smaller one within it,
and neither depends on where the inputs lie or in which order they are listed.
"""

import heapq
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from reasonray.core.record import sample_seed

_Input = TypeVar("_Input")


@dataclass
class _Stratum(Generic[_Input]):
    """How many inputs there are, and those with the lowest hashes: (-hash, number, input)."""

    num_inputs: int = 0
    lowest: list[tuple[int, int, _Input]] = field(default_factory=list)


def sample(inputs: Iterable[tuple[str, str, _Input]], size: int, seed: int) -> list[_Input]:
    """Draw so many inputs; all of them where there are no more.

    Args:
        inputs: stratum, id and the input itself; of each stratum no more than `size` are held.
        size: how many are drawn.
        seed: of the run.

    Returns:
        In the order in which they came.
    """
    drawn = heapq.nsmallest(size, _placed(inputs, size, seed), key=lambda entry: entry[:3])
    return [each for *_, each in sorted(drawn, key=lambda entry: entry[2])]


def order(inputs: Iterable[tuple[str, str]], seed: int) -> NDArray[np.int64]:
    """The order of which every sample is a beginning, as indices.

    Args:
        inputs: stratum and id; no more than numbers are held of them.
        seed: of the run.
    """
    names: dict[str, int] = {}
    strata, hashes = array("q"), array("q")
    for name, input_id in inputs:
        strata.append(names.setdefault(name, len(names)))
        hashes.append(sample_seed(seed, input_id, "sample"))
    of_stratum, of_hash = np.array(strata, np.int64), np.array(hashes, np.int64)
    places = np.empty(len(of_hash))
    for stratum in range(len(names)):
        those = np.flatnonzero(of_stratum == stratum)
        those = those[np.argsort(of_hash[those], kind="stable")]
        places[those] = (np.arange(len(those)) + 0.5) / len(those)
    ranked: NDArray[np.int64] = np.lexsort((of_hash, places))
    return ranked


def _placed(
    inputs: Iterable[tuple[str, str, _Input]], size: int, seed: int
) -> list[tuple[float, int, int, _Input]]:
    """Of the inputs that may be among the first `size` the place 0..1, hash, number and input."""
    strata: dict[str, _Stratum[_Input]] = {}
    for number, (name, input_id, each) in enumerate(inputs):
        stratum = strata.setdefault(name, _Stratum())
        stratum.num_inputs += 1
        entry = (-sample_seed(seed, input_id, "sample"), number, each)
        if len(stratum.lowest) < size:
            heapq.heappush(stratum.lowest, entry)
        elif entry > stratum.lowest[0]:
            heapq.heapreplace(stratum.lowest, entry)
    return [
        ((place + 0.5) / stratum.num_inputs, -negative, number, each)
        for stratum in strata.values()
        for place, (negative, number, each) in enumerate(sorted(stratum.lowest, reverse=True))
    ]

"""The plan cut into stretches: each the rows of one shard of accepted and one of rejected ones.

Where the cuts are depends on the rows alone, not on the blocks in which they were made.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reasonray.core.place import Place
from reasonray.core.sections import OutputConfig
from reasonray.core.session import Session
from reasonray.dataset.manifest import Kind
from reasonray.dataset.shards import ROW_BYTES
from reasonray.generation.audit import Judged
from reasonray.generation.workspace import Workspace

_MAX_LOT = 4
"""Stretches that one process writes one after the other: a block of rows that lies across a cut is
read once by it, and by two where they are parted."""


@dataclass(frozen=True)
class Stretch:
    """Rows that follow each other in the plan, and where their shards go.

    Attributes:
        number: from 0.
        output: the folder of the output.
        session: name of the one that publishes.
        config: of the shards.
        names: of the files of finished rows, below `.run/work`.
        file, row: of each row its file, as a place in `names`, and its place there.
        is_accepted: of each row.
        duplicates: place in the stretch of each near-duplicate -> the id that it looks like.
        num_bytes: of the rows, about.
    """

    number: int
    output: Place
    session: str
    config: OutputConfig
    names: list[str]
    file: NDArray[np.int64]
    row: NDArray[np.int64]
    is_accepted: NDArray[np.bool_]
    duplicates: dict[int, str]
    num_bytes: int

    @cached_property
    def digest(self) -> str:
        """Of what the shards are made from; another one where a row was done again."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([self.names, sorted(self.duplicates.items())]).encode())
        for column in (self.file, self.row, self.is_accepted):
            digest.update(column.tobytes())
        return digest.hexdigest()

    @property
    def note(self) -> Place:
        """The file which says that the shards are whole."""
        return self.output / ".run" / "published" / f"{self.number:05}.json"

    def shard(self, kind: Kind) -> str:
        """The name of a shard, below the output: sorted by name they stand in the plan's order."""
        return f"{kind}/{self.number:05}-{self.session}.parquet"

    def runs(self) -> list[tuple[Kind, NDArray[np.int64]]]:
        """Places of rows that follow each other in a shard and come from one file.

        In the order of the first of each.
        """
        runs: list[tuple[Kind, NDArray[np.int64]]] = []
        masks: dict[Kind, NDArray[np.bool_]] = {
            "accepted": self.is_accepted,
            "rejected": ~self.is_accepted,
        }
        for kind, mask in masks.items():
            places = np.flatnonzero(mask)
            runs += [(kind, run) for run in split(places, self.file[places])]
        return sorted(runs, key=lambda run: int(run[1][0]))


def stretches(
    workspace: Workspace, session: Session, config: OutputConfig, rows: Judged
) -> list[Stretch]:
    """All rows, in the order of the plan.

    Args:
        workspace: of the output.
        session: that publishes.
        config: of the shards.
        rows: in the order of the plan.
    """
    index = rows.index
    names = index["file"].combine_chunks().dictionary
    file = index["file"].combine_chunks().indices.to_numpy().astype(np.int64)
    row = index["row"].to_numpy().astype(np.int64)
    is_accepted = index["is_accepted"].to_numpy()
    look_alike = pc.index_in(index["id"], value_set=pa.array(rows.duplicates, pa.string()))
    look_alike = pc.fill_null(look_alike, -1).to_numpy()
    originals = list(rows.duplicates.values())
    cut = []
    sizes = index["image_bytes"].to_numpy() + ROW_BYTES
    for number, (start, stop) in enumerate(pairwise(_cuts(sizes, is_accepted, config))):
        here = slice(start, stop)
        used, local = np.unique(file[here], return_inverse=True)
        near = np.flatnonzero(look_alike[here] >= 0).tolist()
        cut.append(
            Stretch(
                number=number,
                output=workspace.output,
                session=session.name,
                config=config,
                names=names.take(pa.array(used)).to_pylist(),
                file=local,
                row=row[here],
                is_accepted=is_accepted[here],
                duplicates={place: originals[look_alike[start + place]] for place in near},
                num_bytes=int(sizes[here].sum()),
            )
        )
    return cut


def lots(stretches: list[Stretch], num_processes: int) -> list[list[Stretch]]:
    """Neighbours, to be written by one process, as many lots for each process and about as large.

    Args:
        stretches: to be written, in order.
        num_processes: at work side by side.
    """
    rounds = math.ceil(len(stretches) / (_MAX_LOT * num_processes))
    num_lots = min(rounds * num_processes, len(stretches))
    edges = [len(stretches) * number // num_lots for number in range(num_lots + 1)]
    return [stretches[start:stop] for start, stop in pairwise(edges)]


def split(values: NDArray[np.int64], keys: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The values, apart where their keys change."""
    return np.split(values, np.flatnonzero(np.diff(keys)) + 1) if len(values) else []


def _cuts(
    sizes: NDArray[np.int64], is_accepted: NDArray[np.bool_], config: OutputConfig
) -> list[int]:
    """Where stretches begin, and the end: each ends with the row that fills a shard of a kind."""
    totals = [np.cumsum(np.where(of_kind, sizes, 0)) for of_kind in (is_accepted, ~is_accepted)]
    cuts = [0]
    while cuts[-1] < len(sizes):
        before = [total[cuts[-1] - 1] if cuts[-1] else 0 for total in totals]
        full = [
            int(np.searchsorted(total, start + config.shard_mb * 1_000_000)) + 1
            for total, start in zip(totals, before, strict=True)
        ]
        cuts.append(min(*full, len(sizes)))
    return cuts

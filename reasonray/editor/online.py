"""Features computed when they are asked for: pays when each sample is seen about once."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.sections import EditorConfig
from reasonray.editor.frozen import COLUMNS, Array, Frozen, Sample

OPEN_ROW_GROUPS = 8


class Online:
    """A dataset's samples through the frozen models; the interface of `features.Features`.

    Args:
        config: the frozen models, and the variants.
        data: the output of `generate`.
        parts: which parts of it.
    """

    def __init__(self, config: EditorConfig, data: Path, parts: Sequence[str]) -> None:
        self.frozen = Frozen(config)
        self.ids: list[str] = []
        self._places: list[tuple[Path, int, int]] = []
        for shard in sorted((data / "accepted").glob("*.parquet")):
            file = pq.ParquetFile(shard)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=["id", "part"]).to_pylist()
                for place, row in enumerate(table):
                    if row["part"] in parts:
                        self.ids.append(row["id"])
                        self._places.append((shard, group, place))
        self._groups: OrderedDict[tuple[Path, int], pa.Table] = OrderedDict()
        # Batches are made ahead in a thread, while held-out ones are asked for.
        self._one_at_a_time = threading.Lock()
        self.null: Array = self.frozen.null()
        self.latent_shape: tuple[int, ...] = self.frozen.latent_shape

    def take(self, indices: Sequence[int]) -> list[Sample]:
        """The samples at some positions, computed in one call."""
        with self._one_at_a_time:
            return self.frozen.samples([self._row(self._places[index]) for index in indices])

    def _row(self, place: tuple[Path, int, int]) -> dict[str, Any]:
        key = place[:2]
        if key not in self._groups:
            self._groups[key] = pq.ParquetFile(key[0]).read_row_group(key[1], columns=list(COLUMNS))
            if len(self._groups) > OPEN_ROW_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        [row] = self._groups[key].slice(place[2], 1).to_pylist()
        return dict(row)

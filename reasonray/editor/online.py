"""Features computed when they are asked for: pays when each sample is seen about once."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.place import Place, parquet
from reasonray.dataset.manifest import complete_manifest
from reasonray.dataset.reading import shards
from reasonray.editor.batches import WINDOW, Variant
from reasonray.editor.frozen import Array, Frozen, Sample
from reasonray.editor.pairs import COLUMNS, origin, pairs, size_kept


class Online:
    """A dataset's samples through the frozen models; the interface of `features.Features`.

    A row group is read whole, whatever is wanted of it, and so many are kept as `Batches` draws
    from at a time.

    Args:
        config: the frozen models, and the variants.
        data: the output of `generate`.
        parts: which parts of it.
    """

    def __init__(self, config: EditorConfig, data: Place, parts: Sequence[str]) -> None:
        self.config, self.frozen = config, Frozen(config)
        self.ids: list[str] = []
        self.origins: list[str] = []
        self.groups: list[int] = []
        self.shapes: list[tuple[int, ...]] = []
        self.left_out: list[str] = []
        self._files: list[tuple[Place, int]] = []
        self._places: list[int] = []
        for shard in shards(data, complete_manifest(data), "accepted"):
            for group in range(parquet(shard).num_row_groups):
                self._add(shard, group, parts)
        self._open: OrderedDict[int, pa.Table] = OrderedDict()
        # Batches are made ahead in threads, while held-out ones are asked for.
        self._reading, self._computing = threading.Lock(), threading.Lock()
        self.null: Array = self.frozen.null()

    def take(self, variants: Sequence[Variant]) -> list[Sample]:
        """Some records' variants, computed in one call."""
        crops = [
            pair for index, number in variants
            for pair in pairs(self._row(index), range(number, number + 1), self.config)
        ]  # fmt: skip
        with self._computing:
            return self.frozen.samples(crops)

    def _add(self, shard: Place, group: int, parts: Sequence[str]) -> None:
        # Whether a crop keeps an edit shows in the picture's header.
        columns = [name for name in COLUMNS if name != "edited_image"]
        file = parquet(shard)
        # Shards are in the order of ids, hence of parts: few row groups have rows of several.
        if set(file.read_row_group(group, columns=["part"])["part"].to_pylist()).isdisjoint(parts):
            self._files.append((shard, group))
            return
        rows = file.read_row_group(group, columns=columns)
        for place, row in enumerate(rows.to_pylist()):
            if row["part"] not in parts:
                continue
            size = size_kept(row, self.config)
            if size is None:
                self.left_out.append(row["id"])
                continue
            self.shapes.append(self.frozen.latent_shape(size))
            self.ids.append(row["id"])
            self.origins.append(origin(row))
            self.groups.append(len(self._files))
            self._places.append(place)
        self._files.append((shard, group))

    def _row(self, index: int) -> dict[str, Any]:
        group = self.groups[index]
        with self._reading:
            if group not in self._open:
                shard, number = self._files[group]
                table = parquet(shard).read_row_group(number, columns=list(COLUMNS))
                self._open[group] = table
                if len(self._open) > WINDOW:
                    self._open.popitem(last=False)
            self._open.move_to_end(group)
            [row] = self._open[group].slice(self._places[index], 1).to_pylist()
        return dict(row)

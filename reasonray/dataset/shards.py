"""Parquet files of rows with pictures: how they are written, their size, how images are shown."""

import functools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reasonray.core.place import Place, arrow, make_folder
from reasonray.core.record import IMAGE, WORKING_IMAGE
from reasonray.core.sections import OutputConfig

MAX_GROUP_BYTES = 100_000_000
"""Of a row group's images, as `datasets` writes; the Hub's viewer refuses 286 MiB."""

ROW_BYTES = 1_000
"""What a row takes beside its images, about."""

_PAGE_ROWS = 16
"""So that who wants one picture need not read a row group of them. Shorter pages cost more: the
Hub finds again what is the same in a new version (`tests/benchmarks/deduplication.py`)."""


def with_image_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the note by which `datasets` and the Hub show the images."""
    features = {field.name: {"_type": "Image"} for field in schema if field.type == IMAGE}
    note = json.dumps({"info": {"features": features}})
    return schema.with_metadata({"huggingface": note})


@functools.cache
def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How Parquet files of such rows are written, for Arrow's writers and Ray Data's.

    Pictures are stored as they are: they are compressed already, none is like another, and to try
    takes half of the time. So the Hub's chunks find them again in another version of the dataset,
    better than pages do that end where the content says.

    Args:
        schema: of the rows; a column that it has not is written as Arrow does by default.
    """
    file = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), file)
    columns = pq.ParquetFile(pa.BufferReader(file.getvalue())).schema
    names = [columns.column(number).path for number in range(len(columns))]
    pictures = {f"{field.name}.bytes" for field in schema if field.type in (IMAGE, WORKING_IMAGE)}
    others = [name for name in names if name not in pictures]
    return {
        "use_dictionary": others,
        "write_statistics": others,
        "compression": {name: "NONE" if name in pictures else "SNAPPY" for name in names},
        "write_batch_size": _PAGE_ROWS,
    }


def image_bytes(table: pa.Table) -> NDArray[np.int64]:
    """The bytes of each row's images."""
    total = np.zeros(table.num_rows, dtype=np.int64)
    for field in table.schema:
        if field.type in (IMAGE, WORKING_IMAGE):
            lengths = pc.binary_length(pc.struct_field(table[field.name], "bytes"))
            total += pc.fill_null(lengths, 0).to_numpy()
    return total


class Shard:
    """One Parquet file, in row groups that the Hub's viewer takes.

    Where a group ends depends on the rows alone, not on how many are written at a time.
    """

    def __init__(self, path: Place, schema: pa.Schema, config: OutputConfig) -> None:
        """Begin the file.

        Args:
            path: of the file, which is replaced.
            schema: of the rows, as `with_image_features` gives it.
            config: rows of a group, at most.
        """
        self._schema = schema
        self._max_rows = config.row_group_rows
        self._waiting: list[pa.Table] = []
        self._num_rows = self._num_bytes = 0
        filesystem, name = arrow(path)
        self._writer = pq.ParquetWriter(
            name,
            schema,
            filesystem=filesystem,
            write_page_index=True,
            **parquet_options(schema),
        )

    def write(self, table: pa.Table) -> None:
        """Add rows; columns beside the schema's are left out."""
        table = table.select(self._schema.names)
        start = 0
        for row, size in enumerate(image_bytes(table).tolist()):
            is_full = self._num_rows >= self._max_rows or self._num_bytes + size > MAX_GROUP_BYTES
            if self._num_rows and is_full:
                self._waiting.append(table.slice(start, row - start))
                self._write_group()
                start = row
            self._num_rows += 1
            self._num_bytes += size
        self._waiting.append(table.slice(start))

    def close(self) -> None:
        """Finish the file; without rows it has a schema alone."""
        if self._num_rows:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        group = pa.concat_tables(self._waiting)
        # Finished rows have 64-bit offsets and no metadata, which is part of the type here.
        try:
            typed = group.cast(self._schema)
        except pa.ArrowInvalid:
            # They begin beyond 2 GiB of a block: in a copy they begin at 0.
            typed = group.take(pa.array(range(group.num_rows))).cast(self._schema)
        self._writer.write_table(typed, row_group_size=group.num_rows)
        self._waiting = []
        self._num_rows = self._num_bytes = 0


class Shards:
    """Files of about the configured size in one folder, one after the other; at least one."""

    def __init__(self, folder: Place, schema: pa.Schema, config: OutputConfig) -> None:
        """Begin the first file.

        Args:
            folder: made, if it is not there.
            schema: of the rows, as `with_image_features` gives it.
            config: their size, and that of their row groups.
        """
        self._folder, self._schema, self._config = folder, schema, config
        self._number = self._bytes = 0
        make_folder(folder)
        self._shard = self._open()

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        while table.num_rows:
            max_bytes = self._config.shard_mb * 1_000_000
            if self._bytes >= max_bytes:
                self._shard.close()
                self._number, self._bytes = self._number + 1, 0
                self._shard = self._open()
            sizes = np.cumsum(image_bytes(table) + ROW_BYTES) + self._bytes
            # A shard ends with the row that fills it.
            num_rows = min(int(np.searchsorted(sizes, max_bytes)) + 1, table.num_rows)
            self._shard.write(table.slice(0, num_rows))
            self._bytes = int(sizes[num_rows - 1])
            table = table.slice(num_rows)

    def close(self) -> None:
        """Finish the last file."""
        self._shard.close()

    def _open(self) -> Shard:
        path = self._folder / f"{self._number:05}.parquet"
        return Shard(path, self._schema, self._config)

"""The Parquet files of an output: their size, and the note by which images are shown."""

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reasonray.core.place import Place, arrow, make_folder
from reasonray.core.record import IMAGE
from reasonray.core.sections import OutputConfig

MAX_GROUP_BYTES = 100_000_000
"""Of a row group's images, as `datasets` writes; the Hub's viewer refuses 286 MiB."""

CHUNKS = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
"""Where pages end: at places that the content defines, so that the Hub stores again only what a new
version changes. The numbers are `datasets`' own (5.2)."""


def with_image_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the note by which `datasets` and the Hub show the images."""
    features = {field.name: {"_type": "Image"} for field in schema if field.type == IMAGE}
    note = json.dumps({"info": {"features": features}})
    return schema.with_metadata({"huggingface": note})


class Shards:
    """Parquet files of about the configured size in one folder; at least one, if empty.

    Attributes:
        names: of the files, in order.
    """

    def __init__(
        self, folder: Place, schema: pa.Schema, config: OutputConfig, prefix: str = ""
    ) -> None:
        self.names: list[str] = []
        self._folder, self._schema, self._prefix = folder, schema, prefix
        self._max_bytes = config.shard_mb * 1_000_000
        self._max_rows = config.row_group_rows
        self._number = self._bytes = 0
        make_folder(folder)
        self._writer = self._open()

    def write(self, table: pa.Table) -> None:
        """Add rows, in groups that the Hub's viewer takes."""
        # Selected and retyped: the schema's metadata is part of its type here.
        table = table.select(self._schema.names).cast(self._schema)
        sizes = _image_bytes(table)
        for start, stop in _groups(sizes, self._max_rows):
            if self._bytes >= self._max_bytes:
                self._writer.close()
                self._number, self._bytes = self._number + 1, 0
                self._writer = self._open()
            self._writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)
            self._bytes += sum(sizes[start:stop])

    def close(self) -> None:
        """Finish the last file."""
        self._writer.close()

    def _open(self) -> pq.ParquetWriter:
        self.names.append(f"{self._prefix}{self._number:05}.parquet")
        filesystem, path = arrow(self._folder / self.names[-1])
        writer = pq.ParquetWriter(
            path,
            self._schema,
            filesystem=filesystem,
            use_content_defined_chunking=CHUNKS,
            write_page_index=True,
        )
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKS)})
        return writer


def _image_bytes(table: pa.Table) -> list[int]:
    """Of each row; all else in it is next to nothing."""
    total = np.zeros(table.num_rows, dtype=np.int64)
    for field in table.schema:
        if field.type == IMAGE:
            lengths = pc.binary_length(pc.struct_field(table[field.name], "bytes"))
            total += pc.fill_null(lengths, 0).to_numpy()
    sizes: list[int] = total.tolist()
    return sizes


def _groups(sizes: list[int], max_rows: int) -> Iterator[tuple[int, int]]:
    """First row and the one after the last of each group; a row of more than the limit is alone."""
    start = num_bytes = 0
    for row, size in enumerate(sizes):
        if row > start and (row - start >= max_rows or num_bytes + size > MAX_GROUP_BYTES):
            yield start, row
            start, num_bytes = row, 0
        num_bytes += size
    if start < len(sizes):
        yield start, len(sizes)

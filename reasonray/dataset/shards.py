"""The Parquet files of an output: their size, and the note by which images are shown."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.record import IMAGE
from reasonray.core.sections import OutputConfig


def with_image_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the note by which `datasets` and the Hub show the images."""
    features = {field.name: {"_type": "Image"} for field in schema if field.type == IMAGE}
    note = json.dumps({"info": {"features": features}})
    return schema.with_metadata({"huggingface": note})


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

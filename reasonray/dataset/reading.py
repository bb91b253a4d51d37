"""Reading a complete output: its rows, or its records with pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.record import Row, to_rows
from reasonray.dataset.manifest import Kind, complete_manifest

_BATCH_ROWS = 16


def read(output: str | Path, kind: Kind = "accepted") -> Iterator[dict[str, Any]]:
    """Iterate an output's records, by id, with `input_image` and `edited_image` as PIL images.

    Args:
        output: the folder of a complete run.
        kind: accepted samples, or rejections with what was known of them.

    Yields:
        The record's fields; an image that could not be read is None.

    Raises:
        UserError: there is no complete output.
    """
    complete_manifest(output)
    return map(_record, read_rows(output, kind))


def read_rows(output: str | Path, kind: Kind = "accepted") -> Iterator[Row]:
    """Iterate a complete output's rows, by id, with their images as encoded there."""
    for path in sorted((Path(output) / kind).glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH_ROWS):
            yield from to_rows(pa.Table.from_batches([batch]))


def _record(row: Row) -> dict[str, Any]:
    from reasonray.core import images

    record: dict[str, Any] = dict(row)
    for name in ("input_image", "edited_image"):
        if record[name] is not None and record[name]["bytes"]:
            record[name] = images.decode(record[name])
    return record

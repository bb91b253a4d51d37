"""Reading a complete output: its rows, or its records with pictures."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from reasonray.core.place import Place, files, parquet, place, reached
from reasonray.core.record import Row, to_rows
from reasonray.dataset.manifest import Kind, Manifest, complete_manifest

_BATCH_ROWS = 16


def read(output: str | Place, kind: Kind = "accepted") -> Iterator[dict[str, Any]]:
    """Iterate an output's records in the order of the plan, with their pictures as PIL images.

    Args:
        output: the folder of a complete run, or its URI on an object store.
        kind: accepted samples, or rejections with what was known of them.

    Yields:
        The record's fields; of `input_image` and `edited_image` one that could not be read is None.

    Raises:
        UserError: there is no complete output, or the store refuses.
    """
    complete_manifest(output)
    return map(_record, read_rows(output, kind))


def read_rows(output: str | Place, kind: Kind = "accepted") -> Iterator[Row]:
    """Iterate a complete output's rows in the order of the plan, with images as encoded there."""
    folder = place(output)
    with reached(folder):
        for path in shards(folder, complete_manifest(folder), kind):
            for batch in parquet(path).iter_batches(batch_size=_BATCH_ROWS):
                yield from to_rows(pa.Table.from_batches([batch]))


def shards(folder: Place, manifest: Manifest, kind: Kind) -> list[Place]:
    """The Parquet files of a complete output, in order; what else lies beside them is not of it.

    Args:
        folder: the output.
        manifest: its own.
        kind: of their rows.
    """
    if kind in manifest.shards:
        return [folder / name for name in manifest.shards[kind]]
    return files(folder / kind, ".parquet")


def _record(row: Row) -> dict[str, Any]:
    from reasonray.core import images

    record: dict[str, Any] = dict(row)
    for name in ("input_image", "edited_image"):
        if record[name] is not None and record[name]["bytes"]:
            record[name] = images.decode(record[name])
    return record

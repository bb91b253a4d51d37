"""What of a new version of a dataset the Hub stores again, by how its Parquet files are written.

    python tests/benchmarks/deduplication.py [--rows 100] [--picture-kb 300]

The Hub keeps chunks of some 64 kB that end where the content says (Xet); one that it has is not
sent again. Version two lacks one row of 20. MB/CPU s are of writing.
"""

import argparse
import hashlib
import io
import time
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.record import ACCEPTED_SCHEMA, Row, to_table
from reasonray.dataset.shards import parquet_options, with_image_features

MIN, MEAN, MAX = 8_192, 65_536, 131_072
"""Bytes of a chunk."""

WINDOW = 48

PAGES = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
"""Where `datasets` 5.2 has pages end, by content."""


def main() -> None:
    """Print a line for each way to write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--picture-kb", type=int, default=300)
    given = parser.parse_args()
    schema = with_image_features(ACCEPTED_SCHEMA)
    rng = np.random.default_rng(0)
    rows: list[Row] = [
        {
            "id": f"II/folder/{number:06}/0",
            "input_image": {"bytes": rng.bytes(given.picture_kb * 1000), "path": None},
            "edited_image": {"bytes": rng.bytes(given.picture_kb * 1000), "path": None},
            "instruction": f"Show what it turns into after {number} days.",
        }
        for number in range(given.rows)
    ]
    table = to_table(rows, ACCEPTED_SCHEMA).cast(schema)
    fewer = table.filter(pa.array([number % 20 != 3 for number in range(given.rows)]))
    ours = parquet_options(schema)
    ways = {
        "Arrow's own": {},
        "Arrow's own, pages by content": {"use_content_defined_chunking": PAGES},
        "ours": ours,
        "ours, pages by content": {**ours, "use_content_defined_chunking": PAGES},
        "ours, pages of 4 rows": {**ours, "write_batch_size": 4},
        "ours, one page a row group": {**ours, "write_batch_size": 1024},
    }
    for name, options in ways.items():
        start = time.process_time()
        first = written(table, options)
        seconds = time.process_time() - start
        before, after = chunks(first), chunks(written(fewer, options))
        again = sum(size for key, size in after.items() if key not in before)
        print(
            f"{name:30} {len(first) / 1e6 / seconds:6.0f} MB/CPU s, "
            f"{again / sum(after.values()):6.1%} is stored again"
        )


def written(table: pa.Table, options: dict[str, object]) -> bytes:
    """A Parquet file in row groups of 100."""
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema, write_page_index=True, **options) as writer:
        writer.write_table(table, row_group_size=100)
    return file.getvalue()


def chunks(content: bytes) -> dict[bytes, int]:
    """Digest of each chunk -> its bytes."""
    gear = np.random.default_rng(1).integers(0, 2**63, 256).astype(np.uint64)
    values = gear[np.frombuffer(content, np.uint8)]
    hashes = np.zeros(len(values), np.uint64)
    for back in range(WINDOW):
        hashes[back:] += values[: len(values) - back] << np.uint64(back)
    ends = np.flatnonzero((hashes >> np.uint64(32)) % np.uint64(MEAN) == 0) + 1
    edges = [0]
    for end in [*ends.tolist(), len(content)]:
        while end - edges[-1] > MAX:
            edges.append(edges[-1] + MAX)
        if end - edges[-1] >= MIN or end == len(content):
            edges.append(end)
    return {
        hashlib.blake2b(content[start:stop], digest_size=12).digest(): stop - start
        for start, stop in pairwise(edges)
    }


if __name__ == "__main__":
    main()

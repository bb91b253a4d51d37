"""The cache of features at LLaVA-1.5-7B's size: bytes a sample, and seconds to feed a step.

    python tests/benchmarks/features.py [--tokens all|text|last] [--samples N] [--threads N]

Random features of the paper's shapes: 583 tokens up to a picture's end and 26 after it, 4,096 wide,
latents of 256 pixels. Printed are the cache's bytes for a square of a sample, and the seconds in
which the batches of a step of 1,024 are assembled in micro-batches of 16, with the files in memory.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.writing import write_file
from reasonray.editor.batches import Batches, ahead
from reasonray.editor.features import INFO, LEFT_OUT, SCHEMA, Features, as_row
from reasonray.editor.frozen import Array, Sample

PICTURE, INSTRUCTION, WIDTH, LATENTS, TAUGHT = 583, 26, 4096, (4, 32, 32), (77, 768)
ROUNDS = 3


def write(folder: Path, tokens: str, count: int) -> Features:
    """A finished cache of `count` samples, one crop each."""
    rng = np.random.default_rng(0)

    def values(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32).astype(np.float16)

    before = PICTURE if tokens == "all" else 0
    after = 1 if tokens == "last" else INSTRUCTION
    schema = SCHEMA.with_metadata({LEFT_OUT: "[]"})
    with pa.ipc.new_file(str(folder / "a.arrow"), schema) as sink:
        for number in range(count):
            sample = Sample(
                f"III/toy/{number}/0", values(*LATENTS), values(*LATENTS), values(before, WIDTH),
                values(after, WIDTH), values(after, WIDTH), values(*TAUGHT),
            )  # fmt: skip
            sink.write_table(as_row(sample, sample.id, 0, schema))
    content = {
        "files": ["a.arrow"], "width": WIDTH, "num_crops": 1,
        "left_out": [], "revisions": {}, "null": values(before + after, WIDTH).tolist(),
    }  # fmt: skip
    write_file(folder / INFO, json.dumps(content))
    return Features(folder)


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", default="text", choices=["all", "text", "last"])
    parser.add_argument("--samples", type=int, default=128, help="in the cache, taken in turn")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        samples = write(Path(place), arguments.tokens, arguments.samples)
        size = (Path(place) / "a.arrow").stat().st_size / arguments.samples
        config = EditorConfig(num_crops=1)
        batches = Batches(samples, range(arguments.samples), config, seed=0)
        micro = config.machines.micro_batch_size
        seconds = []
        for step in range(ROUNDS):
            started, cpu = time.perf_counter(), time.process_time()
            parts = [range(start, start + micro) for start in range(0, config.batch_size, micro)]
            makers = (batches.later(step, places) for places in parts)
            for _ in ahead(makers, arguments.threads):
                pass
            seconds.append((time.perf_counter() - started, time.process_time() - cpu))
    wall, cpu = (min(each) for each in zip(*seconds, strict=True))
    print(f"tokens={arguments.tokens}: {size:,.0f} bytes a crop; a step of {config.batch_size:,} "
          f"in {wall:.1f} s, {cpu:.1f} s of a core, {arguments.threads} threads")  # fmt: skip


if __name__ == "__main__":
    main()

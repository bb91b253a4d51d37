"""What pictures cost beside the models: decoding, encoding and Arrow, CPU seconds a row.

    python tests/benchmarks/pictures.py [--pictures 1000] [--recipe paper] [--edited-format webp]

The production pools and stages of a recipe, without Ray, on drawn photographs; the models do
nothing: every picture has an object, half of its box is painted grey. Between the pools a table is
written and read as Ray's object store would, the last pool's are published. Prints what each pool
takes of one core, model apart, then the totals, as JSON.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.WebPImagePlugin
import pyarrow as pa
import pyarrow.parquet as pq
import torch

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

from toy_notes import DictNotes

from reasonray import stages
from reasonray.core.recipe import Recipe, load
from reasonray.core.record import PLAN_SCHEMA, Row, sample_id, to_table
from reasonray.dataset.manifest import KINDS
from reasonray.dataset.shards import Shards, with_image_features
from reasonray.generation.pool import Pool, PoolSpec
from reasonray.models.detector import Answers, Detector
from reasonray.stages.stage import Stage

SIZE = (1024, 768)
NUM_DRAWN = 16
"""Different photographs; the others are these mirrored and shifted."""


class NoDetector(Detector):
    """An object in the middle for every phrase."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def ask(self, images: Any, phrases: Any) -> list[list[Answers]]:
        """One sure box a phrase."""
        answers = []
        for image, own in zip(images, phrases, strict=True):
            width, height = image.size
            box = torch.tensor([[0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height]])
            answers.append(
                [Answers(p, box, torch.tensor([0.9 if p == "fox" else 0.3])) for p in own]
            )
        return answers


class NoClip:
    """Any picture is half as much like one of two texts as like the other."""

    def __init__(self, *_: Any) -> None:
        pass

    def images(self, images: Any) -> torch.Tensor:
        """The same vector for every picture."""
        return torch.tensor([[1.0, 0.0]]).expand(len(images), 2)

    def texts(self, texts: Any) -> torch.Tensor:
        """Of each pair of texts the first is the likelier."""
        return torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]]).repeat(len(texts) // 2, 1)


class NoPainter:
    """Half of the box becomes grey."""

    @classmethod
    def from_config(cls, _: object) -> "NoPainter":
        """No weights."""
        return cls()

    def paint(self, images: Any, boxes: Any, *_: Any, **__: Any) -> list[PIL.Image.Image]:
        """Pictures of the inputs' sizes."""
        painted = []
        for image, (left, top, right, _) in zip(images, boxes, strict=True):
            copy = image.copy()
            copy.paste((120, 130, 140), (int(left), int(top), int(right), int(top) + 150))
            painted.append(copy)
        return painted


class Words(Stage):
    """What the stages of the language model and of spaCy write."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self.parts = stages.stage_class(name).parts  # type: ignore[misc]

    def process(self, rows: list[Row]) -> None:
        """The same texts for every row."""
        for row in rows:
            row["categories"] = ["dog"]
            row["selected_category"], row["target_category"] = "dog", "fox"
            row["edited_caption"], row["instruction"] = "a fox", "what hunts hens?"
            if row.get("detections"):
                row["detection_box"] = row["detections"][0]["box"]  # type: ignore[index]


class Clock:
    """CPU seconds of threads in marked places; what is marked within a marked place is not counted
    twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._local = threading.local()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Count the block."""
        if getattr(self._local, "is_running", False):
            yield
            return
        self._local.is_running, start = True, time.thread_time()
        try:
            yield
        finally:
            self._local.is_running = False
            with self._lock:
                self.seconds[name] += time.thread_time() - start
                self.calls[name] += 1

    def around(self, kind: Any, method: str, name: str) -> Any:
        """A patch that counts a method."""
        original: Callable[..., Any] = getattr(kind, method)

        def timed(*args: Any, **options: Any) -> Any:
            # A picture in memory is "loaded" again and again: only files are decoded.
            if name == "decode" and not getattr(args[0], "tile", None):
                return original(*args, **options)
            with self.running(name):
                return original(*args, **options)

        return mock.patch.object(kind, method, timed)


def photograph(seed: int) -> PIL.Image.Image:
    """Noise whose spectrum falls with the frequency as a photograph's, so that it is as large."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequencies[0, 0] = 1
    planes = []
    shared = rng.standard_normal((height, width))
    for _ in range(3):
        noise = shared + 0.15 * rng.standard_normal((height, width))
        planes.append(np.fft.irfft2(np.fft.rfft2(noise) / frequencies**1.52, s=(height, width)))
    picture = np.stack(planes, axis=-1)
    picture = 128 + 55 * (picture - picture.mean()) / picture.std()
    return PIL.Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def drawn(folder: Path, count: int) -> list[Row]:
    """Photographs as JPEG, and the plan's rows for them."""
    originals = [np.asarray(photograph(seed)) for seed in range(NUM_DRAWN)]
    rows: list[Row] = []
    for number in range(count):
        turned = np.roll(originals[number % NUM_DRAWN], 37 * number, axis=1)
        path = folder / f"{number:05}.jpg"
        PIL.Image.fromarray(turned).save(path, quality=92)
        row: Row = {"id": sample_id("III", "drawn", str(number)), "part": "III"}
        row.update({"source": "drawn", "source_id": str(number), "variation": 0})
        row.update({"input_uri": str(path), "input_caption": "a dog"})
        rows.append(row)
    return rows


def build(name: str, recipe: Recipe, threshold: float | None) -> Stage:
    """The production stages, but for those that only read and write words."""
    if name in ("load", "ground", "paint", "quality"):
        return stages.build(name, recipe, threshold)
    return Words(name)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--edited-format", help="of output.edited_format; the recipe's own if not")
    asked = parser.parse_args()
    formats = [f"output.edited_format={asked.edited_format}"] if asked.edited_format else []
    recipe = load(asked.recipe, formats)
    clock = Clock()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows = drawn(folder, asked.pictures)
        stack.enter_context(mock.patch("reasonray.models.detector.Detector", NoDetector))
        stack.enter_context(mock.patch("reasonray.models.painter.Painter", NoPainter))
        stack.enter_context(mock.patch("reasonray.models.embedders.Clip", NoClip))
        stack.enter_context(clock.around(PIL.WebPImagePlugin.WebPImageFile, "load", "decode"))
        stack.enter_context(clock.around(PIL.ImageFile.ImageFile, "load", "decode"))
        stack.enter_context(clock.around(PIL.Image.Image, "save", "encode"))
        print(json.dumps(measured(recipe, rows, folder, clock), indent=2))


def measured(recipe: Recipe, rows: list[Row], folder: Path, clock: Clock) -> dict[str, Any]:
    """Milliseconds a row."""
    tables = [to_table(rows, PLAN_SCHEMA)]
    figures: dict[str, Any] = {}
    sizes: list[int] = []
    for number, config in enumerate(recipe.pools):
        pool = Pool(
            PoolSpec(
                config=config,
                recipe=recipe,
                build=build,
                divergence_threshold=None,
                notes=DictNotes(),
                work=folder,
                is_first=number == 0,
                is_last=config is recipe.pools[-1],
            ),
            str(number),
        )
        cpu, before, passed = time.process_time(), dict(clock.seconds), []
        table = pa.concat_tables(tables)
        with mock.patch.object(pool, "process", in_process(pool, clock)):
            for start in range(0, table.num_rows, config.batch_size):
                with clock.running("arrow"):
                    done = pool(table.slice(start, config.batch_size))
                    passed.append(handed_over(done, sizes))
        tables = passed
        spent = {
            name: round(1e3 * (seconds - before.get(name, 0)) / len(rows), 1)
            for name, seconds in clock.seconds.items()
        }
        spent["all"] = round(1e3 * (time.process_time() - cpu) / len(rows), 1)
        figures[" ".join(config.stages)] = spent
    with clock.running("publish"):
        publish(recipe, tables, folder)
    return {
        "pools, CPU ms a row": figures,
        "total, CPU ms a row": {n: round(1e3 * s / len(rows), 1) for n, s in clock.seconds.items()},
        "pictures decoded a row": clock.calls["decode"] / len(rows),
        "pictures encoded a row": clock.calls["encode"] / len(rows),
        "bytes handed from pool to pool, a row": sum(sizes) // len(rows),
        "bytes published, a row": size_of(folder / "out") // len(rows),
        "accepted": sum(table["status"].to_pylist().count("accepted") for table in tables),
    }


def in_process(pool: Pool, clock: Clock) -> Callable[[list[Row]], list[Row]]:
    """The stages' own time is not Arrow's."""
    original = pool.process

    def process(rows: list[Row]) -> list[Row]:
        start = time.thread_time()
        clock._local.is_running = False  # noqa: SLF001  decoding and encoding count from here on
        try:
            return original(rows)
        finally:
            clock._local.is_running = True  # noqa: SLF001
            clock.seconds["arrow"] -= time.thread_time() - start

    return process


def handed_over(table: pa.Table, sizes: list[int]) -> pa.Table:
    """What the object store does: written once, read without a copy; its bytes go to `sizes`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    buffer = sink.getvalue()
    sizes.append(buffer.size)
    return pa.ipc.open_stream(buffer).read_all()


def publish(recipe: Recipe, tables: list[pa.Table], folder: Path) -> None:
    """Ray's file of each block, then the shards."""
    schema = with_image_features(KINDS["accepted"])
    shards = Shards(folder / "out", schema, recipe.output)
    rows = recipe.output.row_group_rows
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"block-{number}.parquet")
    for number in range(len(tables)):
        table = pq.ParquetFile(folder / f"block-{number}.parquet").read()
        for start in range(0, table.num_rows, rows):
            shards.write(table.slice(start, rows))
    shards.close()


def size_of(folder: Path) -> int:
    """Bytes of all its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()

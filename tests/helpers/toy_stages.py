"""A whole pipeline of deterministic NumPy stages, for tests of what is around the stages.

Every row's pictures and texts follow from its id and the seed, as those of real stages do. The
caption `poison` makes the process exit in `paint` (of Part I in `load`), `wrong` raises in
`paint`, `outage` is there a failure outside the row, `fails` one that raises; both pass once
`Build.outages` is false. `slow` writes a line to the file `TOY_SLOW` and takes 10 s there. `large`
has a picture of 6 MB.
"""

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from reasonray.core.errors import RunError
from reasonray.core.images import decode, encode_png
from reasonray.core.place import Place
from reasonray.core.recipe import Recipe, parse
from reasonray.core.record import Part, Row, add_scores, reject, sample_id, sample_seed
from reasonray.core.sections import StagesConfig
from reasonray.stages.divergence import rank_threshold
from reasonray.stages.stage import Stage

SIDE, LARGE = 24, 1414


class Toy(Stage):
    def __init__(self, recipe: Recipe, delay: float) -> None:
        self.seed, self.delay = recipe.seed, delay

    def process(self, rows: list[Row]) -> None:
        for row in rows:
            time.sleep(self.delay)
            self.one(row)

    def one(self, row: Row) -> None:
        pass

    def rng(self, row: Row) -> np.random.Generator:
        return np.random.default_rng(sample_seed(self.seed, row["id"], self.name))

    def picture(self, row: Row, side: int = SIDE) -> PIL.Image.Image:
        return PIL.Image.fromarray(self.rng(row).integers(0, 256, (side, side, 3), dtype=np.uint8))


def visible_gpus() -> str:
    return f"sees GPUs {os.environ.get('CUDA_VISIBLE_DEVICES')!r}"


class Load(Toy):
    name = "load"

    def one(self, row: Row) -> None:
        if row["part"] == "I" and row["input_caption"] == "poison":
            os._exit(9)
        side = LARGE if row["input_caption"] == "large" else SIDE
        row["input_image"] = encode_png(self.picture(row, side), f"{row['source_id']}.png")
        if row["part"] == "I":
            changed = np.asarray(self.picture(row)).copy()
            # The larger the number, the larger the change.
            changed[: 1 + int(row["source_id"]) % SIDE] ^= 0xFF
            row["edited_image"] = encode_png(PIL.Image.fromarray(changed))


class Divergence(Toy):
    name = "divergence"
    parts = ("I",)

    def __init__(self, recipe: Recipe, delay: float, threshold: float | None) -> None:
        super().__init__(recipe, delay)
        self.threshold = threshold

    def one(self, row: Row) -> None:
        assert row["input_image"] is not None
        assert row["edited_image"] is not None
        before, after = (
            np.asarray(decode(i)) / 255 for i in (row["input_image"], row["edited_image"])
        )
        value = float(((before - after) ** 2).mean())
        add_scores(row, divergence=value)
        if self.threshold is not None and value < self.threshold:
            reject(row, self.name, "unchanged", f"{value}")


class Propose(Toy):
    name = "propose"

    def one(self, row: Row) -> None:
        self.spent(30, 10)
        instruction = f"what would {self.rng(row).integers(1000)} become"
        row["candidates"] = [instruction, "other"]
        row["instruction"] = visible_gpus() if row["input_caption"] == "gpus" else instruction


class Paint(Toy):
    name = "paint"
    parts = ("II", "III")

    def __init__(self, recipe: Recipe, delay: float, outages: bool) -> None:
        super().__init__(recipe, delay)
        self.outages = outages

    def one(self, row: Row) -> None:
        if row["input_caption"] == "poison":
            os._exit(9)
        if row["input_caption"] == "wrong":
            raise ValueError("a wrong row")
        if row["input_caption"] == "outage" and self.outages:
            raise RunError("the server is gone; start it and run the same command again")
        if row["input_caption"] == "fails" and self.outages:
            raise ValueError("the server says no")
        if row["input_caption"] == "gpus":
            row["edited_caption"] = visible_gpus()
        if row["input_caption"] == "slow":
            with Path(os.environ["TOY_SLOW"]).open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(10)
        row["edited_image"] = encode_png(self.picture(row))
        row["box"] = [1.0, 2.0, 3.0, 4.0]


class Quality(Toy):
    name = "quality"
    parts = ("II", "III")

    def one(self, row: Row) -> None:
        if row["input_caption"] == "same":
            row["image_hash"] = "ff00ff00ff00ff00"
        else:
            row["image_hash"] = f"{self.rng(row).integers(2**63):016x}"
        if int(row["source_id"]) % 5 == 3:
            reject(row, self.name, "target_missing", "not there")


@dataclasses.dataclass(frozen=True)
class Build:
    """Makes the toy stages; `delay` is what each row takes in each stage, seconds."""

    delay: float = 0.0
    broken: str = ""
    outages: bool = True

    def __call__(self, name: str, recipe: Recipe, threshold: float | None) -> Stage:
        if name == self.broken:
            raise RuntimeError("no weights there")
        match name:
            case "load":
                return Load(recipe, self.delay)
            case "divergence":
                return Divergence(recipe, self.delay, threshold)
            case "propose":
                return Propose(recipe, self.delay)
            case "paint":
                return Paint(recipe, self.delay, self.outages)
            case "quality":
                return Quality(recipe, self.delay)
        idle = Toy(recipe, 0.0)
        type_of_idle = type(f"Idle_{name}", (Toy,), {"name": name, "__module__": __name__})
        idle.__class__ = type_of_idle
        return idle


@dataclasses.dataclass(frozen=True)
class Plan:
    """So many rows of each part; `captions` maps a number of part `captioned` to its caption."""

    num_rows: int
    captions: tuple[tuple[int, str], ...] = ()
    captioned: Part = "II"

    def __call__(self, recipe: Recipe, folder: Place, notices: Sequence[str] = ()) -> Iterator[Row]:
        parts: list[Part] = recipe.parts
        for part in parts:
            for number in range(self.num_rows):
                for variation in range(recipe.variations):
                    yield {
                        "id": sample_id(part, "toy", f"{number:04}", variation),
                        "part": part,
                        "source": "toy",
                        "source_id": f"{number:04}",
                        "variation": variation,
                        "input_uri": "",
                        "input_caption": dict(self.captions).get(number)
                        if part == self.captioned
                        else None,
                        "license": "CC0-1.0",
                    }


def recipe(**changes: object) -> Recipe:
    """Two pools, small blocks."""
    names = ["load", *StagesConfig.model_fields]
    content: dict[str, object] = {
        "seed": 7,
        "sources": [{"format": "folder", "path": "toy"}],
        "pools": [
            {"stages": names[:8], "batch_size": 4},
            {"stages": names[8:], "batch_size": 8},
        ],
        "output": {"block_rows": 8, "stall_timeout_s": 120, "wait_for_cluster_s": 0},
    }
    return parse({**content, **changes}, name="toy")


def sequential(recipe: Recipe, build: Build, plan: Plan) -> dict[str, Row]:
    """What a run must come to, without Ray, files or batches of more than one row."""
    rows = {row["id"]: row for row in plan(recipe, Path())}
    measured = [build(name, recipe, None) for name in ("load", "divergence")]
    values = []
    for row in rows.values():
        for stage in measured:
            [row] = stage([row])
        if row["part"] == "I" and row["variation"] == 0:
            values.append(row["scores"]["divergence"])
    fraction = recipe.stages.divergence.worst_fraction
    threshold = rank_threshold(values, fraction) if fraction else None
    for name in [name for pool in recipe.pools for name in pool.stages]:
        stage = build(name, recipe, threshold)
        for row_id, row in rows.items():
            [rows[row_id]] = stage([row])
    return rows

"""The metrics of an evaluation beside a plain implementation that shares no line with it.

That one takes a picture at a time, prepares it by PIL and NumPy, and runs the checkpoints in double
precision as transformers' own forward passes do.
"""

from collections.abc import Callable

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from toy_editors import benchmark, pair
from transformers import CLIPModel, ViTModel

from reasonray.core.images import encode_png
from reasonray.core.sections import ModelConfig
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.editing import SCHEMA
from reasonray.evaluation.items import INPUT_METRICS, TRUTH_METRICS, Item
from reasonray.evaluation.metrics import InputMetrics, Metrics
from reasonray.evaluation.yardsticks import ByInput, ByTruth, Yardstick, measure
from reasonray.mini import ZOO

pytestmark = pytest.mark.zoo

MODELS = (
    ModelConfig(name="package:reasonray/mini/zoo/clip"),
    ModelConfig(name="package:reasonray/mini/zoo/dino"),
)
SIZES = ((96, 96), (131, 97), (60, 200))
Vector = NDArray[np.float64]


def scene(seed: int, size: tuple[int, int]) -> PIL.Image.Image:
    """Soft patches of colour, unlike those of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize(size, PIL.Image.Resampling.BICUBIC)


def unedited(item: Item) -> PIL.Image.Image:
    return item.pictures[0].open()


def truth(item: Item) -> PIL.Image.Image:
    return item.references[0].open()


def another(item: Item) -> PIL.Image.Image:
    """A picture of its own, of a quarter of the size."""
    width, height = truth(item).size
    return scene(70 + width, (width // 2, height // 2))


class Plain:
    """The formulas as papers have them."""

    def __init__(self) -> None:
        self.clip = CLIPModel.from_pretrained(ZOO / "clip").double().eval()
        self.dino = ViTModel.from_pretrained(ZOO / "dino", add_pooling_layer=False).double().eval()
        self.tokenizer = Tokenizer.from_file(str(ZOO / "clip" / "tokenizer.json"))

    @torch.no_grad()
    def clip_pair(self, picture: PIL.Image.Image, caption: str) -> tuple[Vector, Vector]:
        ids = torch.tensor([self.tokenizer.encode(caption).ids])
        out = self.clip(input_ids=ids, pixel_values=pixels(picture))
        return unit(out.image_embeds), unit(out.text_embeds)

    @torch.no_grad()
    def dino_vector(self, picture: PIL.Image.Image) -> Vector:
        return unit(self.dino(pixels(picture)).last_hidden_state[:, 0])

    def by_truth(self, output: PIL.Image.Image, item: Item) -> dict[str, float]:
        right = truth(item)
        seen, read = self.clip_pair(output, item.reference_text)
        l1, l2 = distances(output, right)
        return {
            "L1": l1,
            "L2": l2,
            "CLIP-I": dot(seen, self.clip_pair(right, "")[0]),
            "DINO": dot(self.dino_vector(output), self.dino_vector(right)),
            "CLIP-T": dot(seen, read),
        }

    def by_input(self, output: PIL.Image.Image, item: Item) -> dict[str, float]:
        before = unedited(item)
        seen, read = self.clip_pair(output, item.reference_text)
        given, known = self.clip_pair(before, item.input_caption)
        step, told = seen - given, read - known
        length = np.sqrt(dot(step, step) * dot(told, told))
        return {
            "CLIP-dir": dot(step, told) / length if length > 1e-9 else 0.0,
            "CLIP-im": dot(seen, given),
            "CLIP-out": dot(seen, read),
            "L1": distances(output, before)[0],
            "DINO": dot(self.dino_vector(output), self.dino_vector(before)),
        }


def unit(row: torch.Tensor) -> Vector:
    vector: Vector = row[0].numpy()
    return np.asarray(vector / np.linalg.norm(vector))


def dot(a: Vector, b: Vector) -> float:
    return float(sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)))


def pixels(picture: PIL.Image.Image, side: int = 96) -> torch.Tensor:
    """The short side to `side`, bicubic, then the middle, then -1..1."""
    width, height = picture.size
    short = min(width, height)
    size = (side * width // short, side * height // short)
    resized = np.asarray(picture.resize(size, PIL.Image.Resampling.BICUBIC), np.float64)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    middle = resized[top : top + side, left : left + side] / 255 * 2 - 1
    return torch.from_numpy(middle.transpose(2, 0, 1)[None])


def distances(output: PIL.Image.Image, other: PIL.Image.Image) -> tuple[float, float]:
    a = np.asarray(output.resize(other.size, PIL.Image.Resampling.BICUBIC), np.float64) / 255
    difference = a - np.asarray(other, np.float64) / 255
    return float(np.mean(np.abs(difference))), float(np.mean(difference**2))


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Written and read again: pictures of three sizes and shapes, before and after."""
    pairs = [
        pair(
            number,
            input_image=encode_png(scene(number, size)),
            truth=encode_png(scene(30 + number, size)),
            input_caption=f"a {before} on a table",
            truth_caption=f"a {after}",
            instructions=[{"kind": "direct", "text": "go"}],
        )
        for number, (size, before, after) in enumerate(
            zip(SIZES, ("bee", "cat", "sheep"), ("honey", "kitten", "sweater"), strict=True)
        )
    ]
    folder = tmp_path_factory.mktemp("written")
    return list(Ours(str(benchmark(folder, pairs))).items())


def figures(
    yardstick: Yardstick, items: list[Item], pictures: list[PIL.Image.Image]
) -> list[dict[str, float]]:
    """What an evaluation writes of an editor's pictures."""
    edits = pa.Table.from_pylist(
        [
            {"id": item.id, "picture": encode_png(each), "seconds": 1.0}
            for item, each in zip(items, pictures, strict=True)
        ],
        schema=SCHEMA,
    )
    rows = measure(yardstick, items, edits).to_pylist()
    assert [row["reason"] for row in rows] == [None] * len(items)
    return [dict(row["axes"]) for row in rows]


@pytest.mark.parametrize("edit", [unedited, truth, another])
def test_both_yardsticks_give_what_a_plain_implementation_gives(
    items: list[Item], edit: Callable[[Item], PIL.Image.Image]
) -> None:
    plain, pictures = Plain(), [edit(item) for item in items]
    for yardstick, names, formula in (
        (ByTruth(Metrics(*MODELS)), TRUTH_METRICS, plain.by_truth),
        (ByInput(InputMetrics(*MODELS)), INPUT_METRICS, plain.by_input),
    ):
        rows = figures(yardstick, items, pictures)
        for picture, row, item in zip(pictures, rows, items, strict=True):
            assert tuple(row) == names
            assert row == pytest.approx(formula(picture, item), abs=1e-5, rel=0)


def test_identity_and_truth_bound_the_scale(items: list[Item]) -> None:
    by_truth, by_input = ByTruth(Metrics(*MODELS)), ByInput(InputMetrics(*MODELS))
    before, after = [unedited(item) for item in items], [truth(item) for item in items]
    same = {"L1": 0, "L2": 0, "CLIP-I": 1, "DINO": 1}
    for row in figures(by_truth, items, after):
        assert {name: row[name] for name in same} == pytest.approx(same, abs=1e-5)
    undone = {"CLIP-dir": 0, "CLIP-im": 1, "L1": 0, "DINO": 1}
    for row in figures(by_input, items, before):
        assert {name: row[name] for name in undone} == pytest.approx(undone, abs=1e-5)
    for row, *pair_of in zip(figures(by_truth, items, before), before, after, strict=True):
        assert (row["L1"], row["L2"]) == pytest.approx(distances(*pair_of), abs=1e-12)
        assert row["L1"] > 0.05
        assert row["CLIP-I"] < 0.99

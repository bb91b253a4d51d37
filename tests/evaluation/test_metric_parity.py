"""The metrics of an evaluation beside a plain implementation that shares no line with it.

That one takes a picture at a time, prepares it by PIL and NumPy, and runs the checkpoints in double
precision as transformers' own forward passes do.
"""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from toy_editors import benchmark, pair
from transformers import CLIPModel, ViTModel

from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.images import decode, encode_png
from reasonray.core.sections import ModelConfig
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.editing import edit_chunk
from reasonray.evaluation.editors import Edits, Spec, load
from reasonray.evaluation.items import INPUT_METRICS, TRUTH_METRICS, Item
from reasonray.evaluation.measuring import ByInput, ByTruth, Yardstick, measure
from reasonray.evaluation.metrics import InputMetrics, Metrics
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


class Quarter:
    """Makes a picture of its own of a quarter of the size."""

    def edit(self, images: Any, instructions: Any, seeds: Any) -> list[PIL.Image.Image]:
        return [scene(70 + n, (i.width // 2, i.height // 2)) for n, i in enumerate(images)]


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
        truth = item.references[0].open()
        seen, read = self.clip_pair(output, item.reference_text)
        l1, l2 = distances(output, truth)
        return {
            "L1": l1,
            "L2": l2,
            "CLIP-I": seen @ self.clip_pair(truth, "")[0],
            "DINO": self.dino_vector(output) @ self.dino_vector(truth),
            "CLIP-T": seen @ read,
        }

    def by_input(self, output: PIL.Image.Image, item: Item) -> dict[str, float]:
        before = item.pictures[0].open()
        seen, read = self.clip_pair(output, item.reference_text)
        given, known = self.clip_pair(before, item.input_caption)
        step, told = seen - given, read - known
        is_still = np.abs(step).max() < 1e-9
        return {
            "CLIP-dir": 0.0 if is_still else step @ told / np.sqrt((step @ step) * (told @ told)),
            "CLIP-im": seen @ given,
            "CLIP-out": seen @ read,
            "L1": distances(output, before)[0],
            "DINO": self.dino_vector(output) @ self.dino_vector(before),
        }


def unit(row: torch.Tensor) -> Vector:
    vector: Vector = row[0].numpy()
    return vector / np.sqrt((vector**2).sum())


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
    yardstick: Yardstick, items: list[Item], editor: str | Edits, folder: Path
) -> tuple[list[PIL.Image.Image], list[dict[str, float]]]:
    """An editor's pictures, and what an evaluation writes of them."""
    under_test = (
        load(Spec(editor, editor), EvaluationConfig()) if isinstance(editor, str) else editor
    )
    path = folder / "edits.parquet"
    edit_chunk(under_test, items, path, session=1, seed=0, timeout_s=60)
    edits = pq.read_table(path)
    pictures = [decode(each) for each in edits["picture"].to_pylist()]
    rows = measure(yardstick, items, edits).to_pylist()
    assert [row["reason"] for row in rows] == [None] * len(items)
    return pictures, [dict(row["axes"]) for row in rows]


@pytest.mark.parametrize("editor", ["identity", "truth", Quarter()])
def test_both_yardsticks_give_what_a_plain_implementation_gives(
    items: list[Item], tmp_path: Path, editor: str | Edits
) -> None:
    plain = Plain()
    for yardstick, names, formula in (
        (ByTruth(Metrics(*MODELS)), TRUTH_METRICS, plain.by_truth),
        (ByInput(InputMetrics(*MODELS)), INPUT_METRICS, plain.by_input),
    ):
        pictures, rows = figures(yardstick, items, editor, tmp_path)
        for picture, row, item in zip(pictures, rows, items, strict=True):
            assert tuple(row) == names
            assert row == pytest.approx(formula(picture, item), abs=1e-5, rel=0)


def test_identity_and_truth_bound_the_scale(items: list[Item], tmp_path: Path) -> None:
    by_truth, by_input = ByTruth(Metrics(*MODELS)), ByInput(InputMetrics(*MODELS))
    same = {"L1": 0, "L2": 0, "CLIP-I": 1, "DINO": 1}
    for row in figures(by_truth, items, "truth", tmp_path)[1]:
        assert {name: row[name] for name in same} == pytest.approx(same, abs=1e-5)
    undone = {"CLIP-dir": 0, "CLIP-im": 1, "L1": 0, "DINO": 1}
    for row in figures(by_input, items, "identity", tmp_path)[1]:
        assert {name: row[name] for name in undone} == pytest.approx(undone, abs=1e-5)
    for row, item in zip(figures(by_truth, items, "identity", tmp_path)[1], items, strict=True):
        far = distances(item.pictures[0].open(), item.references[0].open())
        assert (row["L1"], row["L2"]) == pytest.approx(far, abs=1e-12)
        assert row["L1"] > 0.05
        assert row["CLIP-I"] < 0.99

"""The production classes on small untrained models of the checkpoints' own structure.

What differs between the zoo's models and the paper's, weights apart: a first stage that chooses 900
queries, LLMDet's class and its five levels, LLaVA's 576 tokens of a picture and its processor.
"""

from typing import Any

import numpy as np
import PIL.Image
import pytest
import tiny_editor
import torch
from transformers import (
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
)

from reasonray.core.sections import ImagesConfig, ModelConfig
from reasonray.editor.conditioning import multimodal_states, states_of_several
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.mini.training.detector import build, build_processor
from reasonray.models.detector import Detector

NUM_QUERIES = 900
SIZE = {"shortest_edge": 800, "longest_edge": 1333}


def picture(size: tuple[int, int]) -> PIL.Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return PIL.Image.fromarray(small).resize(size, PIL.Image.Resampling.BICUBIC)


@pytest.fixture(scope="module", params=["grounding-dino", "llmdet"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    torch.manual_seed(0)
    config: Any = build().config
    config.num_queries, config.num_feature_levels = NUM_QUERIES, 4
    model: Any = GroundingDinoForObjectDetection
    if request.param == "llmdet":
        own = {name: value for name, value in config.to_dict().items() if name != "model_type"}
        config = MMGroundingDinoConfig(**{**own, "num_feature_levels": 5})
        model = MMGroundingDinoForObjectDetection
    folder = tmp_path_factory.mktemp(request.param)
    model(config).save_pretrained(folder)
    processor = build_processor()
    processor.image_processor.size = SIZE
    processor.save_pretrained(folder)
    return Detector(ModelConfig(name=str(folder)))


def test_as_long_a_picture_as_is_let_in_has_places_for_all_queries(detector: Detector) -> None:
    long = ImagesConfig().max_aspect
    width, height = round(60 * long), 60
    [[cat, dog]] = detector.ask([picture((width, height))], [["cat", "dog"]])
    assert cat.boxes.shape == (NUM_QUERIES, 4)
    assert dog.scores.shape == (NUM_QUERIES,)
    # Boxes are of the picture, not of what it was resized to.
    assert float(cat.boxes[:, 0::2].median()) < width
    assert float(cat.boxes[:, 1::2].median()) < height
    if detector._model.config.num_feature_levels == 4:  # noqa: SLF001
        # What `images.max_aspect` guards against; a fifth level has more places.
        with pytest.raises(RuntimeError, match="out of range"):
            detector.ask([picture((2000, 40))], [["cat"]])


@pytest.fixture(scope="module")
def llava() -> tuple[Any, Any]:
    """576 tokens of 336 pixels, and LLaVA-1.5's processor, which cuts a picture's ends off."""
    return tiny_editor.multimodal(image_size=336, patch=14)


@pytest.mark.parametrize(("size", "spot"), [((768, 256), (4, 90)), ((256, 768), (90, 690))])
def test_llava_sees_the_ends_of_a_picture_in_training_and_in_the_pipeline(
    llava: tuple[Any, Any], size: tuple[int, int], spot: tuple[int, int]
) -> None:
    mllm, processor = llava
    pipe: Any = ReasonEditPipeline(
        vae=tiny_editor.vae(), unet=tiny_editor.unet(), scheduler=tiny_editor.scheduler(),
        **{**tiny_editor.multimodal_parts(), "mllm": mllm, "processor": processor}, tokens="text",
    )  # fmt: skip
    plain = picture(size)
    changed = plain.copy()
    changed.paste((255, 0, 0), (*spot, spot[0] + 60, spot[1] + 60))
    said = ["Show what it makes."]
    seen, computed = [], []
    for each in (plain, changed):
        before, [(states, mask)] = states_of_several(mllm, processor, [each], [said], "text")
        assert before.shape[1] == 0
        whole, _ = multimodal_states(mllm, processor, [each], said, "all")
        # The picture's 576, and what the template has before it.
        assert whole.shape[1] - states.shape[1] >= 576
        seen.append(states)
        computed.append(pipe.conditions([each], said)[0][:1])
        expected, _ = pipe.connector(states, mask)
        length = expected.shape[1]
        assert torch.allclose(computed[-1][:, :length], expected, atol=1e-4)
    assert (seen[0] - seen[1]).abs().max() > 1e-4
    assert (computed[0] - computed[1]).abs().max() > 1e-5

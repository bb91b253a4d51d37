"""The words of the zoo's tokenizers: the world's own whole, every other spelled by its letters."""

import string

from reasonray.mini.catalogue import CATEGORIES
from reasonray.mini.world import COLOURS

OTHER_NOUNS = (
    "background",
    "person",
    "man",
    "woman",
    "child",
    "table",
    "chair",
    "sky",
    "grass",
    "wall",
    "house",
    "boat",
    "train",
    "airplane",
    "bird",
    "elephant",
    "apple",
    "orange",
    "pizza",
    "bottle",
    "book",
    "clock",
    "phone",
    "camera",
    "flower",
    "mountain",
    "river",
    "guitar",
    "ball",
    "hat",
    "shoe",
    "dragon",
    "castle",
    "spoon",
    "knife",
    "window",
    "door",
    "lamp",
    "snake",
    "frog",
    "lion",
    "bear",
    "whale",
    "rocket",
    "moon",
    "star",
)
"""Nouns that are in no scene: phrases with nothing to find."""

WORDS = tuple(
    dict.fromkeys(
        word
        for text in (
            *(category.phrase for category in CATEGORIES.values()),
            *COLOURS,
            "on a background , and . ?",
        )
        for word in text.split()
    )
)
"""Everything a caption of the world can say, in a fixed order."""

PIECES = (*string.ascii_lowercase, *string.digits, *string.punctuation)
"""What other words are made of."""

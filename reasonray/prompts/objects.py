"""What was found in a picture, in words: how large, of which shape, where, and which of several."""

from collections.abc import Mapping, Sequence

from reasonray.core.boxes import area

ELONGATED = 1.3
"""Ratio of a box's sides from which it is called tall or wide."""

SHAPES = ("tall", "square", "wide")
PLACES = (
    *("upper left", "top", "upper right"),
    *("left", "centre", "right"),
    *("lower left", "bottom", "lower right"),
)


def listed(abouts: Mapping[str, str | None]) -> str:
    """The objects on one line: "dog (the left one of 2, 9 % of the picture, wide, left), cup (…)".

    Args:
        abouts: what is known of each category; None: nothing.
    """
    return ", ".join(f"{name} ({about})" if about else name for name, about in abouts.items())


def described(
    box: Sequence[float],
    size: tuple[int, int],
    *,
    qualifier: str | None = None,
    num_instances: int = 1,
) -> str:
    """For P_replace: "the left one of 2, 9 % of the picture, wide, lower left".

    Args:
        box: xyxy, pixels.
        size: width and height of the picture, pixels.
        qualifier: which of several it is, e.g. "left"; None where there is one.
        num_instances: of its category in the picture.
    """
    left, top, right, bottom = box
    ratio = (right - left) / max(bottom - top, 1e-6)
    shape = SHAPES[(ratio > 1 / ELONGATED) + (ratio > ELONGATED)]
    column, row = (
        min(2, max(0, int(1.5 * (low + high) / length)))
        for low, high, length in ((left, right, size[0]), (top, bottom, size[1]))
    )
    share = max(1, round(100 * area(box) / (size[0] * size[1])))
    which = f"the {qualifier} one of {num_instances}, " if qualifier else ""
    return f"{which}{share} % of the picture, {shape}, {PLACES[3 * row + column]}"

"""The one way in which a whole picture is made smaller."""

import PIL.Image

Size = tuple[int, int]


def within(size: Size, max_side: int) -> Size:
    """The size, or one of its shape that has no side above the limit.

    Args:
        size: width and height, pixels.
        max_side: pixels.
    """
    longer = max(size)
    if longer <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longer)) for side in size)
    return width, height


def resized(image: PIL.Image.Image, size: Size) -> PIL.Image.Image:
    """The picture in the size; itself where it has it."""
    if image.size == size:
        return image
    # The gap: an area filter first, which is quick, and Lanczos over the rest.
    return image.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)

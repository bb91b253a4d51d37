import PIL.Image
import pytest

from reasonray.core.resizing import Size, resized, within


@pytest.mark.parametrize(
    ("size", "smaller"),
    [
        ((100, 50), (100, 50)),
        ((200, 100), (100, 50)),
        ((100, 201), (50, 100)),
        ((3000, 10), (100, 1)),
    ],
)
def test_the_longer_side_keeps_to_the_limit_and_the_shape_stays(size: Size, smaller: Size) -> None:
    assert within(size, 100) == smaller


def test_a_picture_that_has_the_size_is_not_touched() -> None:
    picture = PIL.Image.new("RGB", (30, 20))
    assert resized(picture, (30, 20)) is picture
    assert resized(picture, (15, 10)).size == (15, 10)

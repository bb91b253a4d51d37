import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonray.models.shapes import MAX_DISTORTION, fixed_shape

LIMITS = (800, 1333)
sides = st.integers(100, 4000)


@given(sides, sides)
def test_an_aspect_is_hardly_changed_and_the_limits_are_kept(width: int, height: int) -> None:
    shape = fixed_shape((width, height), *LIMITS)
    assert max(shape) <= 1333
    assert min(shape) <= 800
    assert max(shape) == 1333 or min(shape) == 800
    change = (shape[0] / shape[1]) / (width / height)
    rounding = 1 / min(shape)  # half a pixel of each side
    assert abs(math.log(change)) <= math.log1p(MAX_DISTORTION) + rounding


@given(sides, sides)
def test_a_picture_on_its_side_has_the_shape_on_its_side(width: int, height: int) -> None:
    lying, standing = (fixed_shape(size, *LIMITS) for size in ((width, height), (height, width)))
    assert lying == (standing if width == height else standing[::-1])


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(640, 480), (1024, 768), (500, 375), (500, 374), (4032, 3024)], (1067, 800)),
        ([(640, 427), (500, 333), (500, 334), (1024, 683), (6000, 4000)], (1200, 800)),
        ([(427, 640), (333, 500), (4000, 6000)], (800, 1200)),
        ([(1920, 1080), (1280, 720), (854, 480)], (1333, 750)),
        ([(512, 512), (96, 96), (1080, 1079)], (800, 800)),
    ],
)
def test_photographs_of_one_format_have_one_shape(
    sizes: list[tuple[int, int]], shape: tuple[int, int]
) -> None:
    assert {fixed_shape(size, *LIMITS) for size in sizes} == {shape}


def test_there_are_few_shapes() -> None:
    sizes = [(width, 1000) for width in range(500, 2001)]
    assert len({fixed_shape(size, *LIMITS) for size in sizes}) <= 27


def test_another_models_limits_are_its_own() -> None:
    assert fixed_shape((640, 480), 96, 192) == (128, 96)
    assert fixed_shape((3000, 1000), 96, 192)[0] == 192

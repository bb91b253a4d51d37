import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reasonray.core.window import Window, square_window

SIZES = st.integers(32, 400)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, different everywhere."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(1024, 768), (640, 480), (1024, 400), (512, 1024)])
def test_a_small_object_is_painted_with_more_pixels_than_it_has(size: tuple[int, int]) -> None:
    side = math.sqrt(0.02 * math.prod(size))
    corners = [(0.0, 0.0), (size[0] - side, size[1] - side), (size[0] / 3, size[1] / 3)]
    for left, top in corners:
        window = square_window(size, (left, top, left + side, top + side), 2.25)
        relative = window.normalised((left, top, left + side, top + side))
        painted = 512 * (relative[2] - relative[0])
        assert 205 <= painted <= 256
        assert painted >= side


@given(st.data(), SIZES, SIZES, st.floats(1, 4))
def test_the_window_is_square_holds_the_box_and_stays_in_the_picture_if_it_can(
    data: st.DataObject, width: int, height: int, ratio: float
) -> None:
    left, right = sorted(data.draw(st.tuples(*[st.floats(0, width)] * 2)))
    top, bottom = sorted(data.draw(st.tuples(*[st.floats(0, height)] * 2)))
    window = square_window((width, height), (left, top, right, bottom), ratio)
    assert window.left <= left
    assert right <= window.left + window.side
    assert window.top <= top
    assert bottom <= window.top + window.side
    longer = max(right - left, bottom - top)
    assert longer <= window.side <= max(ratio * (longer + 2) + 1, longer + 2)
    assert window.side >= min(ratio * longer - 1, width, height)
    if window.side <= width:
        assert 0 <= window.left <= width - window.side
    if window.side <= height:
        assert 0 <= window.top <= height - window.side


@pytest.mark.parametrize("left", [200.0, 201.5, 333.0])
def test_a_box_far_from_the_borders_is_in_the_middle_of_its_window(left: float) -> None:
    window = square_window((1000, 800), (left, 300, left + 90, 340), 2.25)
    box = window.normalised((left, 300, left + 90, 340))
    assert box[0] + box[2] == pytest.approx(1, abs=0.02)
    assert box[1] + box[3] == pytest.approx(1, abs=0.02)


def test_beyond_the_picture_its_edge_is_repeated() -> None:
    image = picture(40, 20)
    view = np.asarray(Window(0, -10, 40).view(image, 40))
    source = np.asarray(image)
    assert (view[:10] == source[0]).all()
    assert (view[10:30] == source).all()
    assert (view[30:] == source[-1]).all()


def test_the_box_is_mapped_with_its_window() -> None:
    window = square_window((100, 40), (70, 10, 90, 30), 2.25)
    assert window == Window(60, 0, 40), "the shorter side, which is less than 2.25 times the box"
    assert window.normalised((70, 10, 90, 30)) == (0.25, 0.25, 0.75, 0.75)

import numpy as np
import PIL.Image
from hypothesis import given
from hypothesis import strategies as st

from reasonray.core.boxes import area, clipped
from reasonray.core.crops import GRID, MAX_ZOOM, crop_over, drawn, edited_box, keeps, training_size

sides = st.integers(33, 400)
fractions = st.floats(0, 1)


@given(sides, sides, fractions, fractions, fractions, fractions, fractions, fractions, fractions)
def test_a_square_keeps_its_box_wherever_that_fits(
    width: int, height: int, left: float, top: float, across: float, down: float,
    x: float, y: float, zoom: float,
) -> None:  # fmt: skip
    size, shorter = (width, height), min(width, height)
    box = clipped(
        (left * (width - 1), top * (height - 1), left * (width - 1) + 1 + across * width / 2,
         top * (height - 1) + 1 + down * height / 2),
        size,
    )  # fmt: skip
    crop = crop_over(size, box, (x, y), zoom=1 + zoom * (MAX_ZOOM - 1))
    assert crop.left >= 0
    assert crop.top >= 0
    assert crop.left + crop.width <= width
    assert crop.top + crop.height <= height
    assert shorter / MAX_ZOOM - 1 <= crop.width == crop.height <= shorter
    if max(box[2] - box[0], box[3] - box[1]) < shorter - 2:
        assert crop.left <= box[0] + 1e-6
        assert crop.top <= box[1] + 1e-6
        assert box[2] <= crop.left + crop.width + 1e-6
        assert box[3] <= crop.top + crop.height + 1e-6
        assert keeps(size, box)


def test_a_box_that_no_square_holds_is_left_out_and_its_middle_kept() -> None:
    crop = crop_over((1600, 400), (200, 0, 1400, 400), (0.0, 0.0))
    assert (crop.left, crop.top, crop.width, crop.height) == (600, 0, 400, 400)
    assert not keeps((1600, 400), (200, 0, 1400, 400))
    assert keeps((1600, 400), (200, 0, 640, 400))
    assert not keeps((400, 1600), (0, 200, 400, 650))
    assert keeps((1600, 400), None)


def test_nine_shapes_are_trained_on_and_little_is_cut_off_of_most() -> None:
    shapes = {training_size((w, h), 256) for w in range(100, 400, 7) for h in range(100, 400, 7)}
    sides = {(256, 256), (320, 256), (384, 256), (448, 256), (512, 256)}
    assert shapes == sides | {(height, width) for width, height in sides}
    assert training_size((3000, 1000), 96) == (192, 96)
    for width in range(100, 201):
        shape = training_size((width, 100), 256)
        crop = crop_over((width, 100), (0, 0, 1, 1), (0.5, 0.5), shape)
        assert crop.width * crop.height > 0.88 * width * 100
        assert abs(crop.width / crop.height - shape[0] / shape[1]) < 0.02


def test_a_crop_has_the_shape_that_is_asked_for_and_its_box() -> None:
    crop = crop_over((1000, 500), (900, 10, 990, 480), (0.0, 0.0), (320, 256), 1.1)
    assert (crop.width, crop.height) == (588, 470)
    assert crop.left + crop.width >= 990
    assert not keeps((1000, 300), (0, 0, 900, 300), (512, 256))
    assert keeps((1000, 300), (0, 0, 600, 300), (512, 256))


def test_squares_are_drawn_by_the_record_s_id_and_number() -> None:
    box = (300, 100, 400, 200)
    crops = {drawn((768, 512), box, f"III/a/{i}/0", k) for i in range(4) for k in range(4)}
    assert len(crops) > 12
    assert drawn((768, 512), box, "III/a/0/0", 2) == drawn((768, 512), box, "III/a/0/0", 2)
    assert all(drawn((768, 512), box, f"III/a/{i}/0").width == 512 for i in range(9))
    assert {crop.width for crop in crops} - {512}


def test_a_square_may_lie_anywhere_that_keeps_the_box_and_starts_on_the_grid() -> None:
    places = [crop_over((768, 512), (200, 10, 260, 60), (x / 50, 0.5)).left for x in range(51)]
    assert min(places) == 0
    assert max(places) == 200
    assert all(place % GRID == 0 for place in places)


def picture(size: tuple[int, int]) -> PIL.Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3))
    return PIL.Image.fromarray(pixels.astype(np.uint8)).resize(size, PIL.Image.Resampling.BICUBIC)


def test_without_a_box_the_pair_s_own_difference_is_one() -> None:
    before = picture((600, 400))
    after = before.copy()
    after.paste((255, 0, 255), (30, 100, 130, 200))
    noisy = np.asarray(after).astype(int) + np.random.default_rng(1).integers(-4, 5, (400, 600, 3))
    after = PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    box = edited_box(before, after, None)
    assert np.allclose(box, (30, 100, 130, 200), atol=6)
    assert crop_over(before.size, box, (0.9, 0.9)).left <= 30


def test_a_change_of_the_whole_picture_is_no_object_to_be_cut() -> None:
    before = picture((600, 400))
    box = edited_box(before, PIL.Image.eval(before, lambda value: 255 - value), None)
    assert area(box) > 0.8 * 600 * 400
    assert edited_box(before, before, None) == (0, 0, 600, 400)


def test_a_record_s_box_is_taken_as_it_is() -> None:
    before = picture((64, 48))
    assert edited_box(before, before, [3, 4, 90, 20]) == (3, 4, 64, 20)

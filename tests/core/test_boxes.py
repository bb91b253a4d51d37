import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonray.core.boxes import (
    Box,
    area,
    clipped,
    iou,
    share_covered,
    share_inside,
    whole,
    widened,
)
from reasonray.core.record import to_rows, to_table

coordinate = st.floats(-200, 400, allow_nan=False, width=32)
boxes = st.tuples(coordinate, coordinate, coordinate, coordinate)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


def test_a_box_is_widened_by_its_margin_and_cut_off_at_the_picture() -> None:
    assert widened([10, 20, 30, 60], 0.1, (100, 61)) == (8, 16, 32, 61)
    assert widened([10, 20, 30, 60], 0, (100, 100)) == (10, 20, 30, 60)


def test_what_a_box_touches_belongs_to_it() -> None:
    assert whole([10.9, 20.0, 30.1, 59.5], (100, 100)) == (10, 20, 31, 60)
    assert whole([-3.5, 0.5, 120.0, 99.1], (100, 100)) == (0, 0, 100, 100)


@given(boxes, st.floats(0, 1), sizes)
def test_a_journey_between_pools_moves_no_pixel(
    box: Box, margin: float, size: tuple[int, int]
) -> None:
    # A detector's boxes are float32, as those of `clipped` to whole numbers stay.
    detection = list(clipped(box, size))
    painted = widened(detection, margin, size)
    [row] = to_rows(to_table([{"detection_box": detection, "box": list(painted)}]))
    assert widened(row["detection_box"] or [], margin, size) == painted
    assert whole(row["box"] or [], size) == painted == tuple(row["box"] or [])


@given(boxes, sizes)
def test_what_is_clipped_lies_in_the_picture_or_has_no_area(
    box: Box, size: tuple[int, int]
) -> None:
    left, top, right, bottom = clipped(box, size)
    assert area((left, top, right, bottom)) <= size[0] * size[1]
    if left < right and top < bottom:
        assert left >= 0
        assert top >= 0
        assert right <= size[0]
        assert bottom <= size[1]
    else:
        assert area((left, top, right, bottom)) == 0


def test_the_overlap_of_boxes_is_a_share_of_what_both_cover() -> None:
    several = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert iou(several, [0, 0, 10, 10]).tolist() == pytest.approx([1, 1 / 3, 0])
    assert iou([0, 0, 2, 2], (1, 1, 3, 3)) == pytest.approx(1 / 7)


def test_a_box_inside_another_covers_the_part_that_their_areas_say() -> None:
    several = [[0, 0, 5, 10], [5, 0, 15, 10], [0, 0, 100, 100], [50, 50, 60, 60], [3, 3, 3, 8]]
    assert share_inside(several, [0, 0, 10, 10]).tolist() == [1, 0.5, 0.01, 0, 0]
    assert share_covered([0, 0, 10, 10], several).tolist() == [0.5, 0.5, 1, 0, 0]

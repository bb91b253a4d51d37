import pytest

from reasonray.core.errors import UserError
from reasonray.mini.evaluation.captioner import objects_named
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.zoo import evaluate


def test_an_unknown_group_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="captions: not one of captioner"):
        evaluate(["captions"])


@pytest.mark.zoo
def test_each_group_gives_figures_over_the_cases_asked_for() -> None:
    figures = {figure.name: figure for figure in evaluate(["captioner"], count=6)}
    named = figures["caption names exactly the objects present"]
    assert named.count == 6
    assert named.value >= 5 / 6
    assert named.target == 0.97


@pytest.mark.parametrize(
    ("value", "target", "higher", "reached"),
    [(0.98, 0.98, True, True), (0.97, 0.98, True, False), (0.02, 0.03, False, True),
     (0.04, 0.03, False, False), (0.0, None, True, True)],
)  # fmt: skip
def test_a_target_is_a_least_or_a_largest_value(
    value: float, target: float | None, higher: bool, reached: bool
) -> None:
    assert Measurement("x", value, target, higher, 10).reached is reached


def test_a_share_of_nothing_is_nought() -> None:
    assert share("x", 0, 0, 0.5).value == 0


def test_named_objects_are_counted_as_often_as_they_are_named() -> None:
    text = "a light bulb, a cat and a cat on a caterpillar, not in a category"
    assert objects_named(text) == ["cat", "cat", "caterpillar", "light bulb"]
    text = "two mice, a hot dog and three dogs in a basket"
    assert objects_named(text) == ["basket", *["dog"] * 3, "hot dog", "mouse", "mouse"]

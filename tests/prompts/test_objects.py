import pytest

from reasonray.prompts.objects import described, listed


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 30, 10), "3 % of the picture, wide, upper left"),
        ((40, 40, 60, 60), "4 % of the picture, square, centre"),
        ((90, 60, 100, 100), "4 % of the picture, tall, lower right"),
        ((45, 0, 50, 5), "1 % of the picture, square, top"),
        ((0, 40, 100, 60), "20 % of the picture, wide, centre"),
        ((100, 100, 100, 100), "1 % of the picture, tall, lower right"),
    ],
)
def test_a_box_is_told_in_words(box: tuple[float, float, float, float], words: str) -> None:
    assert described(box, (100, 100)) == words


def test_one_of_several_is_told_by_its_word() -> None:
    words = described((0, 0, 20, 20), (100, 100), qualifier="left", num_instances=2)
    assert words == "the left one of 2, 4 % of the picture, square, upper left"
    assert listed({"dog": words, "cup": None}) == f"dog ({words}), cup"

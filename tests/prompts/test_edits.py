import pytest

from reasonray.prompts.edits import caption_fault, is_mass, is_plural, several, unfit

FIT = [
    ("bee", "butterfly"),
    ("desk lamp", "candle"),
    ("fox", "dog"),
    ("banana", "apple"),
    ("milk", "honey"),
    ("egg", "chicken"),
    ("scooter", "bicycle"),
    ("toy soldier box", "doll"),
    ("statue", "fountain"),
    ("snowman", "tree"),
    ("record player", "television"),
    ("statue of a man", "tree"),
    ("lighthouse", "tree"),
]

UNFIT = [
    ("puppy", "dog"),
    ("poodle", "dog"),
    ("golden retriever", "dog"),
    ("roses", "flower"),
    ("parrot", "bird"),
    ("taxi", "car"),
    ("kitten", "cat"),
    ("animal", "dog"),
    ("vehicle", "bus"),
    ("man", "dog"),
    ("firefighter", "hydrant"),
    ("old woman", "statue"),
    ("happiness", "cake"),
    ("floor lamp", "desk lamp"),
    ("mug", "cup"),
    ("group of people", "tree"),
    ("two children", "tree"),
]


@pytest.mark.parametrize(("target", "selected"), FIT)
def test_another_thing_is_fit(target: str, selected: str) -> None:
    assert unfit(target, selected, f"a {selected} in a room", [selected]) is None


@pytest.mark.parametrize(("target", "selected"), UNFIT)
def test_people_ideas_and_kinds_of_the_same_thing_are_unfit(target: str, selected: str) -> None:
    reason = unfit(target, selected, f"a {selected} in a room", [selected])
    assert reason is not None
    assert target in reason


TRUE = [
    ("a large brown dog laying on a couch", "dog", "fox", "a fox laying on a couch"),
    ("a large brown dog laying on a couch", "dog", "fox", "a large brown fox laying on a couch"),
    ("three dogs on a sofa", "dog", "fox", "two dogs and a fox on a sofa"),
    ("a dog and another dog", "dog", "fox", "a dog and a fox"),
    ("a fire truck and a man behind the truck", "fire truck", "bus",
     "a bus and a man behind the bus"),
    ("grapes on a plate", "grape", "strawberry", "strawberries on a plate"),
    ("2 dogs on a sofa", "dog", "fox", "a fox and a dog on a sofa"),
    ("5 dogs on a sofa", "dog", "fox", "4 dogs and a fox on a sofa"),
    ("a cup of coffee on a desk", "coffee", "tea", "a cup of tea on the desk"),
    ("A Man Riding A Horse", "horse", "camel", "a man riding a camel"),
    ("mice in a cage", "mouse", "hamster", "hamsters in a cage"),
    ("a cake on a cake stand", "cake", "pie", "a pie on a cake stand"),
]  # fmt: skip

FALSE = [
    ("a dog on a sofa", "dog", "fox", "a fox beside a dog on a sofa", '"dog"'),
    ("a dog on a sofa", "dog", "fox", "a fox in a spaceship on a sofa", '"spaceship"'),
    ("a dog on a sofa", "dog", "fox", "a fox on a sofa, trending on artstation", '"trending"'),
    ("a dog on a sofa", "dog", "fox", "a fox", '"sofa"'),
    ("a dog on a sofa", "dog", "fox", "a wolf on a sofa", '"fox"'),
    ("a dog on a red sofa", "dog", "fox", "a fox on a sofa", '"red"'),
    ("two men and a dog", "dog", "fox", "two men, a dog and a fox", '"dog"'),
    ("a dog on a sofa", "dog", "fox", "two foxes on a sofa", '"two"'),
]


@pytest.mark.parametrize(("caption", "selected", "target", "edited"), TRUE)
def test_a_true_caption_of_the_edited_picture_passes(
    caption: str, selected: str, target: str, edited: str
) -> None:
    assert caption_fault(edited, caption, selected, target) is None


@pytest.mark.parametrize(("caption", "selected", "target", "edited", "word"), FALSE)
def test_a_caption_that_keeps_the_old_thing_or_adds_another_is_told_by_the_word(
    caption: str, selected: str, target: str, edited: str, word: str
) -> None:
    assert word in (caption_fault(edited, caption, selected, target) or "")


@pytest.mark.parametrize(
    ("caption", "name", "is_several"),
    [
        ("three dogs on a lawn", "dog", True),
        ("a herd of brown cows", "cow", True),
        ("a couple of zebras", "zebra", True),
        ("2 overlapping boats", "boat", True),
        ("a row of motorcycles", "motorcycle", True),
        ("a cat next to another cat", "cat", True),
        ("two men and a dog", "dog", False),
        ("a dog with two balls", "dog", False),
        ("a bunch of bananas", "banana", False),
        ("a pair of scissors", "scissors", False),
        ("a dog", "cat", False),
    ],
)
def test_a_caption_tells_of_several_things(caption: str, name: str, is_several: bool) -> None:
    assert several(caption, name) is is_several


def test_plurals_and_mass_nouns_are_known() -> None:
    assert all(map(is_plural, ["strawberries", "scissors", "hot dogs", "children"]))
    assert not any(map(is_plural, ["bus", "glass", "iris", "lens", "dog", ""]))
    assert is_mass("chocolate milk")
    assert not is_mass("milk bottle")

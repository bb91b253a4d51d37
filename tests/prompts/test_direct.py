import pytest

from reasonray.prompts.direct import TEMPLATES, direct_instruction, with_article


@pytest.mark.parametrize(
    ("name", "caption", "phrase"),
    [
        ("milk", "some milk and a bee", "some milk"),
        ("bee", "A bee on a flower", "a bee"),
        ("dog", "two dogs on a sofa", "a dog"),
        ("dogs", "two dogs on a sofa", "two dogs"),
        ("fire truck", "there is a fire truck", "a fire truck"),
        ("umbrella", "the umbrella", "an umbrella"),
        ("owl", "", "an owl"),
    ],
)
def test_the_target_keeps_the_caption_s_article_or_gets_a_fitting_one(
    name: str, caption: str, phrase: str
) -> None:
    assert with_article(name, caption) == phrase


def test_each_seed_gives_a_template_that_names_both() -> None:
    sentences = {direct_instruction("bee", "milk", "some milk", seed=i) for i in range(50)}
    assert len(sentences) == len(TEMPLATES)
    assert "Turn the bee into some milk" in sentences
    assert all("bee" in text and "some milk" in text for text in sentences)


@pytest.mark.parametrize(
    ("name", "caption", "phrase"),
    [
        ("strawberry", "strawberries on a plate", "strawberries"),
        ("sushi", "sushi on a plate", "sushi"),
        ("fried rice", "a bowl of fried rice", "fried rice"),
        ("scissors", "scissors on a desk", "scissors"),
        ("bus", "", "a bus"),
        ("unicorn", "", "a unicorn"),
        ("hourglass", "", "an hourglass"),
        ("ukulele", "", "a ukulele"),
        ("umbrella stand", "", "an umbrella stand"),
    ],
)
def test_plurals_and_mass_nouns_get_no_article(name: str, caption: str, phrase: str) -> None:
    assert with_article(name, caption) == phrase


def test_plurals_of_both_captions_stay_plurals() -> None:
    sentence = direct_instruction(
        "grape", "strawberry", "strawberries on a plate", seed=1, input_caption="grapes on a plate"
    )
    assert sentence == "Replace the grapes with strawberries"


def test_one_of_several_is_named_by_its_word() -> None:
    sentence = direct_instruction(
        "dog",
        "fox",
        "two dogs and a fox",
        seed=0,
        input_caption="three dogs",
        qualifier="leftmost",
    )
    assert sentence == "Turn the leftmost dog into a fox"

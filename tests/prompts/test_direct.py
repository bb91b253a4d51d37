import pytest

from reasonray.prompts.direct import (
    TEMPLATES,
    direct_instruction,
    direct_sentence,
    in_one_wording,
    with_article,
)


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


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("selected", "target"),
    [("bee", "some milk"), ("leftmost hot dog", "an old fire truck"), ("dogs", "two foxes")],
)
@pytest.mark.parametrize("capital", [True, False])
def test_what_says_the_same_is_said_in_one_wording(
    template: str, selected: str, target: str, capital: bool
) -> None:
    if "{selected} {target}" in template:
        selected = selected.split()[-1]
    sentence = direct_sentence(template, selected, target, capital=capital)
    assert in_one_wording(sentence) == f"Turn the {selected} into {target}"


@pytest.mark.parametrize(
    ("sentence", "plain"),
    [
        ("Replace the grapes with strawberries", "Turn the grapes into strawberries"),
        ("swap the noodles for fried rice.", "Turn the noodles into fried rice"),
        ("  change the man in black to a ghost\n", "Turn the man in black into a ghost"),
        ("Make the BEE a wasp.", "Turn the BEE into a wasp"),
    ],
)
def test_plurals_and_mass_nouns_need_no_article_to_be_a_target(sentence: str, plain: str) -> None:
    assert in_one_wording(sentence) == plain


@pytest.mark.parametrize(
    "sentence",
    [
        "change the colour to red",
        "make the grapes strawberries",
        "make the sky purple",
        "make the man wear a hat",
        "make the dog into a cat",
        "make the leftmost dog a fox",
        "turn the cow into a car. It should be red.",
        "make the dog with a hat a cat",
        "make it a painting",
        "turn the cow into a car and the sun into a moon",
        "turn the cow into a car, as in a dream",
        "let a car take the place of the cow and move it",
        "let a car take the place of the cow. Make it red",
        "replace the very old and nearly blind dog with a cat",
        "It should be the one that makes the honey",
        "",
    ],
)
def test_what_is_not_surely_the_same_stays_as_it_is(sentence: str) -> None:
    assert in_one_wording(sentence) == sentence

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

from pathlib import Path

import pytest

from reasonray.prompts.english import is_english
from reasonray.sources.mini.world import REAL, caption, sample_scene

DATA = Path(__file__).parents[1] / "data" / "languages.txt"
CAPTIONS = [
    tuple(line.split(" ", 1))
    for line in DATA.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("language", "text"), CAPTIONS)
def test_captions_of_other_languages_are_told_from_english_ones(language: str, text: str) -> None:
    assert is_english(text) is (language == "english")


def test_what_tells_no_language_passes() -> None:
    assert all(map(is_english, ["", "  ", "123", "xyz", "...", "👍"]))


def test_all_captions_of_the_mini_world_are_english() -> None:
    assert all(is_english(caption(sample_scene(seed, scenery=REAL))) for seed in range(200))

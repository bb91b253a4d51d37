from pathlib import Path

import pytest
import yaml

from reasonray.prompts.words import equivalent, introduced, mentions, naming, same, words

LEAKS = Path(__file__).parents[1] / "data" / "leaks.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "Send a fire truck.",
        "Send two FIRE-TRUCKS!",
        "the firetruck's ladder",
        "Fire  trucks, many of them",
        "the ﬁre truck",
        "a truck with a ladder",
        "trucks",
        "a truckload of water",
        "a lorry with a ladder",
    ],
)
def test_every_form_of_a_compound_and_its_head_is_found(text: str) -> None:
    assert naming(text, ["fire truck"]) is not None


@pytest.mark.parametrize("text", ["Something that puts out a fire.", "struck by a ladder", ""])
def test_a_modifier_alone_is_a_hint_and_no_name(text: str) -> None:
    assert naming(text, ["fire truck"]) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mice in the pantry", "mouse"),
        ("What knives do", "knife"),
        ("two sandwiches", "sandwich"),
        ("the ponies", "pony"),
        ("go fishing", "fish"),
        ("a milky drink", "milk"),
        ("a cheesy smell", "cheese"),
        ("someone at the beehive", "bee"),
        ("on horseback", "horse"),
        ("ride a bike", "bicycle"),
        ("a motor cycle", "motorcycle"),
        ("the lightbulb", "light bulb"),
        ("a cup", "cup of tea"),
        ("some tea", "cup of tea"),
        ("the children", "child"),
        ("l'arbre Ärger", "ärger"),
    ],
)
def test_inflections_compounds_synonyms_and_odd_plurals_name_it(text: str, name: str) -> None:
    assert naming(text, [name]) is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a crunchy carrot for a caring owner", "car"),
        ("a monkey in a hockey game", "key"),
        ("a comfortable vegetable", "table"),
        ("the clock strikes", "lock"),
        ("a catalogue", "cat"),
        ("the corner of a street", "corn"),
        ("something that flies over butter", "butterfly"),
        ("a beautiful day", "bee"),
    ],
)
def test_a_word_that_only_looks_alike_does_not_name_it(text: str, name: str) -> None:
    assert naming(text, [name]) is None


def test_what_an_edit_brings_in_is_found_without_the_words_of_editing() -> None:
    found = introduced(
        "a woman with a dog in the park",
        "a woman with two dragons in the park",
        "turn the dog into fire-breathing dragons",
    )
    assert found == ["dragons", "fire", "breathing"]


def test_candidates_labelled_by_hand_are_told_apart() -> None:
    """`tests/benchmarks/leaks.py` prints the figures and, with --list, each error."""
    innocent, leaks = [], []
    sets = yaml.safe_load(LEAKS.read_text(encoding="utf-8"))
    for pair in [*sets["seen"], *sets["unseen"]]:
        telling = introduced(pair["input"], pair["edited"], pair["direct"])
        innocent += [naming(text, telling) is not None for text in pair["innocent"]]
        leaks += [naming(text, telling) is not None for text in pair["leaks"]]
    assert sum(innocent) <= 0.02 * len(innocent)
    assert sum(leaks) >= 0.9 * len(leaks)


@pytest.mark.parametrize(
    ("after", "direct", "telling"),
    [
        ("a man playing the violin", "he should play violin", ["violin"]),
        ("a man sitting", "make him sit down", ["sitting"]),
        ("a man on a beach", "turn off the sun and take the man to the beach", ["beach"]),
        ("a man in the snow", "make it winter", ["snow", "winter"]),
        ("a man", "shave off his beard", ["shave"]),
        ("two men", "make it two men", ["two"]),
    ],
)
def test_what_hardly_tells_is_barred_only_where_the_edit_brings_in_nothing_else(
    after: str, direct: str, telling: list[str]
) -> None:
    assert introduced("a man with a beard", after, direct) == telling


def test_a_plural_of_what_was_there_is_not_brought_in() -> None:
    assert introduced("a mouse", "mice", "make it three mice") == ["three"]


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("Bees", "bee", True),
        ("firetruck", "fire truck", True),
        ("red truck", "truck", True),
        ("car", "automobile", True),
        ("desk lamp", "desk", False),
        ("bee", "butterfly", False),
        ("apple pie", "apple", False),
    ],
)
def test_two_names_are_alike_when_they_mean_one_thing_or_a_kind_of_it(
    a: str, b: str, alike: bool
) -> None:
    assert equivalent(a, b) is alike
    assert equivalent(b, a) is alike


def test_a_caption_mentions_a_phrase_only_in_full() -> None:
    assert mentions("a red fire truck on a road", "fire truck")
    assert not mentions("a truck on fire", "fire truck")
    assert not mentions("anything", "")


def test_words_are_split_at_hyphens_and_freed_of_possessives() -> None:
    assert words("The dog's well-known, 'old' trick…") == [
        "the", "dog", "well", "known", "old", "trick",
    ]  # fmt: skip
    assert same("dogs", "dog")

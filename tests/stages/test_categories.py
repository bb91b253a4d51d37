import numpy as np
import pytest
from labelled_captions import labelled
from spacy.language import Language

from reasonray.core.errors import UserError
from reasonray.core.record import Row
from reasonray.core.sections import CategoriesConfig
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import caption, sample_scene
from reasonray.stages.categories import Categories, categories, load_pipeline


@pytest.fixture(scope="module")
def pipeline() -> Language:
    return load_pipeline()


@pytest.fixture(scope="module")
def stage() -> Categories:
    return Categories(CategoriesConfig(max_categories=4), seed=0)


CAPTIONS = {
    "a group of sheep standing on top of a lush green field": ["sheep"],
    "a man riding a wave on top of a surfboard": ["surfboard"],
    "a fire truck parked in front of a building": ["fire truck", "building"],
    "two hot dogs with mustard on a paper plate": ["hot dog", "mustard", "paper plate"],
    "a cat sitting on a wooden table next to a laptop": ["cat", "table", "laptop"],
    "a red and white bus driving down a city street": ["bus"],
    "a bathroom with a toilet, a sink and a mirror": ["toilet", "sink", "mirror"],
    "a young girl holding a pink umbrella in the rain": ["umbrella"],
    "three zebras grazing in a grassy field": ["zebra"],
    "a vase of flowers on a table": ["vase", "flower", "table"],
    "a glass of milk and a plate of cookies": ["glass", "milk", "plate", "cookie"],
    "a large, brown dog laying on a couch": ["dog", "couch"],
    "an orange cat sleeping on a man's lap": ["cat"],
    "an orange and two apples on a tray": ["orange", "apple", "tray"],
    "a stop sign at the corner of a street": ["stop sign"],
    "a black and white photo of a train on the tracks": ["train"],
    "a close up of a giraffe with trees in the background": ["giraffe", "tree"],
    "a person on a snowboard jumping in the air": ["snowboard"],
    "a street sign in Paris, France": ["street sign"],
    "John Smith wearing a hat in New York": ["hat"],
    "A Dog And A Cat On A Sofa": ["dog", "cat", "sofa"],
    "a teddy bear sitting on a bed with a pillow": ["teddy bear", "bed", "pillow"],
    "a couple of elephants walking through a river": ["elephant"],
    "a pair of scissors and a roll of tape on a desk": ["scissors", "tape", "desk"],
    "a computer monitor, keyboard and mouse": ["computer monitor", "keyboard", "mouse"],
    "a t-shirt and a pair of jeans on a chair": ["t-shirt", "jeans", "chair"],
    "the left side of a refrigerator": ["refrigerator"],
    "a slice of pizza on a plate with a fork and knife": ["pizza", "plate", "fork", "knife"],
    "an old rusty bicycle leaning against a brick wall": ["bicycle"],
    "a polar bear swimming in the water": ["polar bear"],
    "a wolf, mice and geese near a lake": ["wolf", "mouse", "goose"],
    "a snowman and a fireman with a scarf": ["snowman", "scarf"],
    "a parking meter on the side of the road": ["parking meter"],
    "a fire truck and a man behind the truck": ["fire truck"],
    "a dog and another dog": ["dog"],
    "a picture of a caterpillar and a banana": ["caterpillar", "banana"],
    "there is a mouse, some yarn, a cup and a motorcycle": ["mouse", "yarn", "cup", "motorcycle"],
    "two men playing a video game": [],
    "a beautiful sunset over the ocean": [],
    "a woman and her children smiling at the beach": [],
    "": [],
}


@pytest.mark.parametrize("text", CAPTIONS)
def test_captions_as_people_and_captioners_write_them(text: str, pipeline: Language) -> None:
    assert categories(text, pipeline) == CAPTIONS[text]


def test_mini_captions_give_exactly_their_objects(pipeline: Language) -> None:
    wrong = {
        text: found
        for scene in (sample_scene(seed) for seed in range(3_000_000, 3_000_150))
        if (found := categories(text := caption(scene), pipeline)) != list(scene.categories)
    }
    assert not wrong


def test_lists_of_any_mini_objects_are_read(pipeline: Language) -> None:
    rng = np.random.default_rng(0)
    wrong = []
    for _ in range(60):
        chosen = [str(n) for n in rng.choice(sorted(CATEGORIES), rng.integers(1, 5), replace=False)]
        *head, last = (CATEGORIES[name].phrase for name in chosen)
        text = f"a photo of {', '.join(head)} and {last}" if head else f"a photo of {last}"
        if categories(text, pipeline) != chosen:
            wrong.append(text)
    assert not wrong


def rows(*captions: str | None) -> list[Row]:
    return [{"id": str(i), "part": "III", "input_caption": c} for i, c in enumerate(captions)]


def test_a_caption_without_an_object_is_a_rejection(stage: Categories) -> None:
    good, bad, none = stage(rows("a cat on a mat", "two women smiling", None))
    assert good["categories"] == ["cat", "mat"]
    assert (bad["stage"], bad["reason"]) == ("categories", "no_category")
    assert "two women smiling" in (bad["detail"] or "")
    assert none["reason"] == "no_category"


def test_a_caption_in_another_language_is_told_as_that(stage: Categories) -> None:
    good, bad = stage(rows("a cat on a mat", "ein Schaf auf einer Wiese"))
    assert good["categories"] == ["cat", "mat"]
    assert (bad["stage"], bad["reason"]) == ("categories", "not_english")
    assert bad["detail"] == "captions must be English: 'ein Schaf auf einer Wiese'"


def test_the_first_so_many_are_kept(stage: Categories) -> None:
    (row,) = stage(rows("a cat, a dog, a bird, a cow and a horse"))
    assert row["categories"] == ["cat", "dog", "bird", "cow"]


def test_what_the_source_names_comes_behind_what_the_caption_names(stage: Categories) -> None:
    (row,) = stage([{
        "id": "x", "part": "III", "input_caption": "a dog on a couch",
        "source_categories": ["Lhasa_apso", "sofa", "woman", "sky", "tennis racket"],
    }])  # fmt: skip
    # A sofa is a couch; people and the sky are no objects.
    assert row["categories"] == ["dog", "couch", "lhasa apso", "tennis racket"]
    (unnamed,) = stage([{
        "id": "y", "part": "III", "input_caption": "two women smiling",
        "source_categories": ["tennis racket"],
    }])  # fmt: skip
    assert unnamed["categories"] == ["tennis racket"]
    assert unnamed.get("stage") is None


def test_the_pipeline_is_in_the_provenance(stage: Categories) -> None:
    (row,) = stage(rows("a cat"))
    (model,) = row["provenance"]["models"]
    assert model["stage"] == "categories"
    assert model["name"].startswith("en_core_web_sm")
    assert model["revision"]


def test_batch_mates_decide_nothing(stage: Categories) -> None:
    captions = [text for text, names in CAPTIONS.items() if names][:12]
    together = [row["categories"] for row in stage(rows(*captions))]
    assert together == [stage(rows(text))[0]["categories"] for text in captions]


def test_part_one_passes_untouched(stage: Categories) -> None:
    row: Row = {"id": "x", "part": "I", "input_caption": "a cat"}
    assert stage([row]) == [row]


def test_a_pipeline_that_is_not_installed_is_the_user_s_mistake() -> None:
    with pytest.raises(UserError, match="python -m spacy download en_core_web_xyz"):
        load_pipeline("en_core_web_xyz")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a dog\x00and a cat", ["dog", "cat"]),
        ("a yellow fire hydrant on a sidewalk", ["fire hydrant"]),
        ("french fries and fire hydrants", ["french fry", "fire hydrant"]),
        ("an oven with a rose in it", ["oven", "rose"]),
        ("a can of soup", ["can", "soup"]),
        ("a dog can swim in a pool", ["dog"]),
        ('a shop window that reads "FRESH FISH"', ["window"]),
        ("a necklace with a heart-shaped pendant", ["necklace", "pendant"]),
        ("a horse drawn carriage and a snow covered cottage", ["carriage", "cottage"]),
        ("a cake in the shape of a car", ["cake"]),
        ("two glasses on a tray and a pair of glasses", ["glass", "tray", "glasses"]),
        ("the eiffel tower in paris", ["tower"]),
        ("a boat in venice by claude monet", ["boat"]),
        ("a lamp by the sofa", ["lamp", "sofa"]),
        ("masterpiece, best quality, a fox, oil painting", ["fox"]),
    ],
)
def test_what_small_pipelines_get_wrong(text: str, names: list[str], pipeline: Language) -> None:
    assert categories(text, pipeline) == names


def test_labelled_captions_are_read_as_a_person_would(pipeline: Language) -> None:
    offered = expected = right = 0
    for captions in labelled().values():
        for text, names in captions:
            result = set(categories(text, pipeline))
            offered, expected = offered + len(result), expected + len(names)
            right += len(result & set(names))
    assert right / max(offered, 1) > 0.95
    assert right / expected > 0.95

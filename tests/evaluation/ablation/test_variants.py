"""What is compared: which data, which steps."""

from pathlib import Path

import pytest
import toy_ablation

from reasonray.core.recipe import Recipe, load
from reasonray.dataset.manifest import Manifest, complete_manifest
from reasonray.evaluation.ablation.variants import DATA, MODEL, Variant, variants


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    toy_ablation.lay_out(tmp_path)
    return complete_manifest(tmp_path / "data")


def settings(variant: Variant, recipe: Recipe) -> Recipe:
    return load(recipe, variant.settings)


def test_the_five_differ_in_condition_and_data_alone(tmp_path: Path, manifest: Manifest) -> None:
    recipe = load(tmp_path / "recipe.yaml")
    compared = {each.name: each for each in variants(recipe, manifest)}
    assert list(compared) == ["baseline", "mllm", "I", "I+II", "I+II+III"]
    assert set(DATA) | set(MODEL) == set(compared)
    made = {name: settings(each, recipe).editor for name, each in compared.items()}
    assert [compared[name].parts for name in DATA[1:]] == [
        ("I",), ("I", "II"), ("I", "II", "III"),
    ]  # fmt: skip
    trained = [made[name] for name in DATA[1:]]
    assert all(each == trained[0] for each in trained)
    assert trained[0] == recipe.editor.model_copy(update={"early_stop": None})
    # Its connector speaks the UNet's language, and has learnt nothing that the dataset adds.
    untuned = trained[0].model_copy(update={"num_steps": 0, "reasoning_ratio": 0.0})
    assert made["mllm"] == untuned
    assert compared["mllm"].parts == ("I",)
    assert made["mllm"].alignment_steps == recipe.editor.alignment_steps == 1
    assert (made["baseline"].condition, made["baseline"].num_steps) == ("text", 0)
    assert len({settings(each, recipe).seed for each in compared.values()}) == 1


def test_steps_are_those_of_all_parts_whatever_a_variant_is_trained_on(
    tmp_path: Path, manifest: Manifest
) -> None:
    changes = ["editor.num_steps=null", "editor.num_epochs=10", "editor.validation_fraction=0"]
    recipe = load(tmp_path / "recipe.yaml", [*changes, "editor.early_stop=null"])
    compared = {each.name: each for each in variants(recipe, manifest)}
    steps = {name: settings(each, recipe).editor.num_steps for name, each in compared.items()}
    # 18 samples, 4 a step, 10 times each.
    assert steps == {"baseline": 0, "mllm": 0, "I": 45, "I+II": 45, "I+II+III": 45}
    assert "(45 steps) on parts I, II, III" in compared["I+II+III"].about


def test_a_recipe_for_the_text_encoder_is_ablated_with_the_multimodal_model(
    tmp_path: Path, manifest: Manifest
) -> None:
    recipe = load(tmp_path / "recipe.yaml", ["editor.condition=text"])
    made = {each.name: settings(each, recipe).editor for each in variants(recipe, manifest)}
    conditions = {name: each.condition for name, each in made.items()}
    assert conditions == dict.fromkeys(made, "mllm") | {"baseline": "text"}

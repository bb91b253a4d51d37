from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stages import recipe

from reasonray.core.commented import commented
from reasonray.core.errors import UserError
from reasonray.core.recipe import RECIPES, ROWS_A_CALL, differing_keys, load, parse
from reasonray.core.sections import ASKING, SourceConfig

NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def message(recipe: str | Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(recipe, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


def written(folder: Path, content: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(content)
    return path


def test_the_recipes_that_ship_are_valid() -> None:
    assert NAMES == ["current", "mini", "paper"]
    for name in NAMES:
        assert load(name).pools


@pytest.mark.parametrize("name", NAMES)
def test_a_shown_recipe_reads_back_as_itself(name: str) -> None:
    text = commented(load(name))
    assert parse(yaml.safe_load(text), name="shown") == load(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_shown_recipe_explains_each_key(name: str) -> None:
    lines = commented(load(name)).splitlines()
    # In a list the first item explains the keys of all.
    keys = set()
    for above, line in zip(["", *lines], lines, strict=False):
        key = line.strip().removeprefix("- ").partition(":")[0]
        # A line without a colon goes on with the text above it.
        if ":" in line and not line.strip().startswith("#") and key not in keys:
            keys.add(key)
            explained = "  # " in line or above.strip().startswith("#")
            assert explained, line
    assert max(map(len, lines)) <= 100


def test_an_unknown_recipe_names_the_nearest() -> None:
    assert "did you mean mini?" in message("mino")
    assert "current, mini, paper" in message("nothing_alike")


def test_an_unknown_key_names_its_place_and_the_nearest() -> None:
    text = message("mini", "stages.ground.box_treshold=0.5")
    assert text == "mini: stages.ground.box_treshold: unknown key (did you mean box_threshold?)"


def test_an_unknown_key_in_a_list_is_named_too(tmp_path: Path) -> None:
    path = written(tmp_path, "pools:\n- {stages: [load], max_actor: 2}\n")
    text = message(path)
    assert "pools.0.max_actor: unknown key (did you mean max_actors?)" in text


@pytest.mark.parametrize(
    ("setting", "places"),
    [
        ("editor.num_workers=2", "editor.machines.num_workers"),
        ("editor.num_gpus=1", "editor.machines.num_gpus"),
        ("language_model.base_url=x", "language_model.server.base_url"),
        ("validation.num_samples=2", "editor.validation"),
        ("editor.machines.batch_size=2", "editor.batch_size"),
        (
            "num_gpus=1",
            "pools.N.num_gpus or editor.machines.num_gpus or evaluation.num_gpus",
        ),
    ],
)
def test_a_key_of_another_section_is_told_where_it_stands(setting: str, places: str) -> None:
    key = setting.partition("=")[0].removesuffix(".num_samples")
    assert message("mini", setting) == f"mini: {key}: unknown key (did you mean {places}?)"


def test_a_value_where_a_section_stands_is_told_its_keys() -> None:
    text = message("mini", "images=0.2")
    keys = "max_pixels, min_side, max_aspect, max_side"
    assert text == f"mini: images: is a section with the keys {keys} (got 0.2)"


@pytest.mark.parametrize(
    ("setting", "decides"),
    [
        ("editor.learning_rate=1", True),
        ("editor.validation_fraction=0.3", True),
        ("editor.features=online", True),
        ("editor.machines.checkpoint_every=7", False),
        ("editor.machines.num_threads=7", False),
        ("editor.validation.validate_every=7", False),
        ("editor.validation.num_samples=7", False),
        ("editor.output.lora_export=separate", False),
    ],
)
def test_what_decides_a_step_stands_outside_machines_validation_and_output(
    setting: str, decides: bool
) -> None:
    contents = [load("mini", settings).editor.content() for settings in ([setting], [])]
    assert (contents[0] != contents[1]) == decides


def test_a_wrong_type_shows_the_value() -> None:
    assert "stages.paint.num_inference_steps" in message(
        "mini", "stages.paint.num_inference_steps=x"
    )
    assert "(got 'x')" in message("mini", "stages.paint.num_inference_steps=x")
    assert "(got 1.5)" in message("mini", "stages.ground.box_threshold=1.5")


def test_pools_must_cover_the_stages_in_order(tmp_path: Path) -> None:
    assert "in order, load, divergence" in message(
        written(tmp_path, "pools:\n- {stages: [load, paint]}\n")
    )
    assert "max_actors 1 is below min_actors 3" in message("mini", "pools.0.min_actors=3")


def test_vllm_s_engine_takes_what_has_no_key_of_its_own() -> None:
    more = "language_model.engine={quantization: fp8, gpu_memory_utilization: 0.8}"
    assert load("current", [more]).language_model.engine["quantization"] == "fp8"
    assert "engine: has no effect on the backend openai" in message("paper", more)
    text = message("current", "language_model.engine={max_model_len: 10}")
    assert "engine.max_model_len: stands in language_model.max_model_len" in text


def test_a_server_of_the_run_s_own_has_no_address() -> None:
    own = ["language_model.backend=serve"]
    assert load("current", own).language_model.has_server
    text = message("current", *own, "language_model.server.base_url=http://127.0.0.1:1/v1")
    assert "language_model.server.base_url: the backend serve starts a server of its own" in text


def test_a_judge_has_no_server_that_a_run_starts() -> None:
    own = "evaluation.judge.language_model.backend=serve"
    assert "evaluation.judge: language_model.backend: serve belongs to" in message("mini", own)


@pytest.mark.parametrize(
    ("setting", "decides"),
    [
        ("engine={quantization: fp8}", True),
        ("engine={gpu_memory_utilization: 0.5, max_num_seqs: 8}", False),
        ("max_engines=4", False),
        ("label_selector={reasonray/gpu: large}", False),
    ],
)
def test_how_much_room_engines_take_and_where_may_be_changed_when_going_on(
    setting: str, decides: bool
) -> None:
    before, after = load("current"), load("current", [f"language_model.{setting}"])
    assert (before.hash() != after.hash()) == decides


def test_vllm_s_engine_has_as_many_gpus_as_its_actor() -> None:
    text = message("current", "pools.1.num_gpus=2")
    assert "pools.1.num_gpus is 2, language_model.tensor_parallel_size 1" in text
    both = ["language_model.tensor_parallel_size=2", "pools.1.num_gpus=2"]
    assert "pools.4.num_gpus is 1" in message("current", *both)
    assert load("current", [*both, "pools.4.num_gpus=2", "pools.5.num_gpus=1"])
    assert load("current", ["pools.1.num_gpus=0", "pools.4.num_gpus=0"])
    assert load("paper", ["pools.1.num_gpus=2"])


@pytest.mark.parametrize("name", ["mini", "paper", "current"])
def test_the_recipes_inpaint_with_the_box_in_every_step(name: str) -> None:
    assert load(name).stages.paint.scheduled_sampling_beta == 1.0


@pytest.mark.parametrize("name", ["paper", "current"])
def test_gligen_s_checkpoint_is_led_away_from_what_its_authors_lead_it_away_from(name: str) -> None:
    # The default of --negative_prompt in GLIGEN's gligen_inference.py.
    assert load(name).stages.paint.negative_prompt == (
        "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, "
        "fewer digits, cropped, worst quality, low quality"
    )


@pytest.mark.parametrize("content", ["[1, 2]", "just words", "a: [", ""])
def test_a_file_that_is_no_recipe_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    assert "mine.yaml" in message(written(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in message(tmp_path / "none.yaml")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("# für mich\n".encode("latin-1"))
    assert "a.yaml: not UTF-8 text (byte 3)" in message(tmp_path / "a.yaml")


def test_settings_reach_into_sections_and_lists() -> None:
    recipe = load("mini", ["pools.1.batch_size=3", "stages.quality.min_divergence=null", "seed=7"])
    assert recipe.pools[1].batch_size == 3
    assert recipe.stages.quality.min_divergence is None
    assert recipe.seed == 7


def test_sources_parts_and_limit_replace_the_recipe_s_own() -> None:
    folder = SourceConfig(format="folder", path="/a=b", license="mine")
    settings = ["sources.0.split=val", "seed=7"]
    recipe = load("mini", settings, sources=["v3det=/data", folder], parts=("III",), limit=5)
    assert recipe.sources == [SourceConfig(format="v3det", path="/data", split="val"), folder]
    assert (recipe.parts, recipe.limit, recipe.seed) == (["III"], 5, 7)
    assert load("mini", sources=[], parts=[]) == load("mini")


def test_a_recipe_to_start_from_is_read_and_not_changed() -> None:
    without_editor = load("mini", ["seed=7"]).model_dump(exclude={"editor"})
    recipe = parse(without_editor, name="without an editor")
    limited = load(recipe, ["stages.paint.guidance_scale=5"], parts=["II"], limit=3)
    assert (limited.seed, limited.parts, limited.limit) == (7, ["II"], 3)
    assert limited.stages.paint.guidance_scale == 5
    assert "editor" not in limited.model_fields_set
    assert load(recipe) == recipe == parse(without_editor, name="without an editor")
    with pytest.raises(UserError, match=r"^recipe: limit: .* \(got 0\)$"):
        load(recipe, limit=0)


@pytest.mark.parametrize(
    "setting",
    [
        "seed",
        "=3",
        "pools.9.batch_size=1",
        "pools.x.batch_size=1",
        "seed.deeper=1",
        "seed=[",
        "pools.9=1",
    ],
)
def test_a_setting_that_fits_nowhere_is_refused(setting: str) -> None:
    assert message("mini", setting)


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30))
def test_any_setting_gives_a_recipe_or_one_line(setting: str) -> None:
    try:
        recipe = load("mini", [setting])
    except UserError as error:
        lines = str(error).splitlines()
    else:
        lines = [recipe.hash()]
    assert len(lines) == 1


@pytest.mark.parametrize(
    "setting",
    ["pools.0.batch_size=3", "pools.1.max_actors=2", "output.block_rows=5",
     "language_model.server.max_concurrency=3", "language_model.server.timeout_s=3",
     "language_model.server.base_url=http://host/v1", "editor.num_steps=3",
     "evaluation.judge.num_repeats=3"],
)  # fmt: skip
def test_what_changes_no_row_leaves_the_hash(setting: str) -> None:
    assert load("mini", [setting]).hash() == load("mini").hash()


@pytest.mark.parametrize(
    "setting",
    ["seed=1", "stages.paint.guidance_scale=5", "stages.ground.box_threshold=0.4",
     "language_model.model.name=other", "images.min_side=64", "variations=2",
     "output.edited_format=jpeg"],
)  # fmt: skip
def test_what_changes_rows_changes_the_hash(setting: str) -> None:
    assert load("mini", [setting]).hash() != load("mini").hash()


def test_keys_that_differ_are_named_by_their_path() -> None:
    first, second = recipe(), recipe(stages={"paint": {"guidance_scale": 3}}, seed=8)
    assert differing_keys(first.content(), second.content()) == [
        "seed",
        "stages.paint.guidance_scale",
    ]


def test_a_run_may_go_on_with_other_limits_of_replies() -> None:
    short, long = (
        load("mini", [f"stages.{stage}.max_tokens={limit}" for stage in ASKING])
        for limit in (100, 200)
    )
    assert short.content() == long.content()
    assert short.hash() == long.hash()


def test_a_pool_that_only_asks_a_server_has_twice_as_many_rows_in_work_as_it_bears() -> None:
    paper = load("paper", ["language_model.server.max_concurrency=100"])
    calls = {tuple(pool.stages): paper.num_calls(pool) for pool in paper.pools}
    assert {stages for stages, num in calls.items() if num * ROWS_A_CALL == 200} == {
        ("rewrite", "select"),
        ("propose",),
    }
    assert set(calls.values()) == {1, 25}
    vllm = load("current")
    assert {vllm.num_calls(pool) for pool in vllm.pools} == {1}

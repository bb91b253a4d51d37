import functools
from typing import Any

import pytest
import torch
from peft import LoraConfig

from reasonray.core.editor_sections import ConnectorConfig, EditorConfig, MachinesConfig
from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig
from reasonray.costs import architectures
from reasonray.costs.counting import count
from reasonray.costs.hardware import KINDS
from reasonray.costs.memory import lora_parameters, memory_plan
from reasonray.costs.reach import MEASURED
from reasonray.costs.schedule import Pace, processes
from reasonray.costs.training import Comparison, TrainingPlan, compare, plan_training

pytestmark = pytest.mark.slow

SAMPLES = 100_000


@functools.cache
def default() -> TrainingPlan:
    return planned()


def planned(gpus: int | None = 8, *, machines: Any = None, **settings: Any) -> TrainingPlan:
    machines = {"num_gpus": 1, **(machines or {})}
    config = EditorConfig.model_validate({"machines": machines, **settings})
    return plan_training(config, SAMPLES, KINDS["h100"], gpus, 0.2, price=3.0)


def test_as_many_processes_are_planned_as_the_cluster_takes() -> None:
    # Left open, they are as many as the cluster takes when it is run, too.
    assert default().settings == []
    assert default().own == default().schedule
    one = planned(machines={"num_workers": 1, "feature_actors": 1})
    assert one.settings == ["editor.machines.num_workers=8", "editor.machines.feature_actors=8"]
    assert one.own is not None
    assert one.own.hours == pytest.approx(8 * default().schedule.hours)
    assert planned(6).own_processes == (4, 6)
    uncounted = planned(None, machines={"num_workers": 2})
    assert uncounted.settings == []
    assert uncounted.schedule == uncounted.own
    assert planned(1, machines={"num_workers": 2}).own is None


@pytest.mark.parametrize(
    ("gpus", "each", "workers", "actors"),
    # 1,024 samples do not divide by 7; three processes of 0.3 lie on a GPU.
    [(7, 1, 4, 7), (2, 0.3, 4, 6), (8, 3, 2, 2), (2, 0.5, 4, 4)],
)
def test_workers_divide_the_batch_and_find_their_gpus(
    gpus: int, each: float, workers: int, actors: int
) -> None:
    config = EditorConfig(machines=MachinesConfig(num_gpus=each))
    assert processes(config, KINDS["h100"], gpus) == (workers, actors)
    with pytest.raises(UserError, match="--gpus 1: a process of the training takes 2 H100s"):
        processes(EditorConfig(machines=MachinesConfig(num_gpus=2)), KINDS["h100"], 1)


def test_a_batch_takes_its_passes_however_small_it_is() -> None:
    pace = Pace(each=1.0, at_least=10.0)
    assert pace.seconds(100, 25) == pace.seconds(100, 50) == 100
    assert pace.seconds(100, 1) == 1000
    assert pace.seconds(101, 50) == 110


def test_small_micro_batches_and_feature_batches_take_longer() -> None:
    small, large = (
        planned(machines={"micro_batch_size": n, "feature_batch_size": n}, condition="text")
        for n in (1, 64)
    )
    assert small.schedule.step_seconds == pytest.approx(128 * 3 * MEASURED["training"].call_s)
    # Latents of two pictures and two texts.
    assert small.feature_hours == pytest.approx(SAMPLES * 4 * MEASURED["features"].call_s / 3600)
    assert large.schedule.step_seconds < small.schedule.step_seconds / 10
    assert large.feature_hours < small.feature_hours / 8
    # Latents of two pictures, the taught text, a picture's states, and two instructions'.
    assert default().features.calls == 6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"connector": {"kind": "resampler", "num_heads": 7}},
            "connector.num_heads 7: must divide 768",
        ),
        ({"image_size": 4}, "image_size 4: the VAE takes pictures of 8 or more"),
    ],
)
def test_a_setting_that_a_model_does_not_take_is_told(settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        planned(**settings)


def test_full_training_takes_twenty_bytes_a_weight_and_fsdp_shares_them() -> None:
    plan = default()
    ddp, fsdp, lora = plan.memory
    whole = plan.unet + plan.connector
    assert whole == pytest.approx(863e6, rel=0.01)
    assert ddp.states == 24 * whole  # DDP's buckets hold the gradients once more
    assert planned(1).memory[0].states == 20 * whole
    assert whole * 20 / 8 < fsdp.states < ddp.states / 3
    assert lora.states < fsdp.states
    assert ddp.activations == fsdp.activations
    # Autocast's copies of all weights are there until the backward pass.
    assert ddp.casts == fsdp.casts == 2 * whole


def test_activations_are_what_cudas_autocast_keeps_of_stable_diffusion() -> None:
    unet = architectures.editor_unet(ModelConfig(name="timbrooks/instruct-pix2pix"))
    states = 608, 768
    saved = count(
        lambda: unet(
            torch.empty(1, 8, 32, 32), torch.empty(1), encoder_hidden_states=torch.empty(1, *states)
        ),
        gradients=True,
    ).saved

    def activations(precision: str) -> float:
        config = EditorConfig.model_validate(
            {"precision": precision, "machines": {"micro_batch_size": 2}}
        )
        return memory_plan(config, unet, None, 0, saved, 1)[0].activations

    # 363 MiB a sample under its rules of what is float32, and 526 if all is.
    assert activations("bfloat16") / 2**20 == pytest.approx(2 * 363, rel=0.02)
    assert activations("float32") / 2**20 == pytest.approx(2 * 526, rel=0.01)


def test_adapters_are_counted_as_peft_makes_them() -> None:
    unet = architectures.editor_unet(ModelConfig(name="timbrooks/instruct-pix2pix"))
    counted = lora_parameters(unet, 8)
    before = architectures.parameters(unet)
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=8, target_modules=targets))
    assert architectures.parameters(unet) - before == counted


def test_alignment_on_encodings_needs_no_unet() -> None:
    other, same = (
        planned(
            connector={"kind": "resampler", "num_queries": number},
            machines={"micro_batch_size": 128},
        )
        for number in (60, 77)
    )
    assert other.alignment_flops == pytest.approx(other.flops)
    assert same.alignment_flops < same.flops / 10
    assert same.step_hours < other.step_hours


def test_adapters_spare_the_weights_gradients() -> None:
    whole, adapters = default(), planned(lora_rank=8)
    assert adapters.flops == pytest.approx(whole.flops * 2 / 3)


def test_one_sample_of_the_cache_is_latents_states_and_the_taught_encoding() -> None:
    latents, taught = 2 * 4 * 40 * 32 * 2, 77 * 768 * 2
    picture, instruction = 2 * (576 + 6) * 4096, 2 * 26 * 4096
    crop = latents + 2 * instruction
    assert default().features.bytes == 4 * crop + taught
    assert planned(alignment_steps=0).features.bytes == 4 * crop
    assert planned(condition="text").features.bytes == 4 * (latents + 2 * taught)
    # The picture's states stand there once for both.
    assert planned(tokens="all").features.bytes == 4 * (crop + picture) + taught
    assert planned(num_crops=1).features.bytes == crop + taught
    assert default().comparison.cache_bytes == SAMPLES * default().features.bytes


def test_a_picture_is_read_once_for_both_instructions() -> None:
    # LLaVA-1.5-7B: 2 x 6.6 G weights for each of 582 tokens and twice 26.
    models = default().features.flops
    assert models == pytest.approx(2 * 6.6e9 * (582 + 52) + 1.2e12, rel=0.1)


def test_steps_follow_from_the_samples_unless_they_are_set() -> None:
    plan = default()
    assert plan.num_steps == 2320  # 25 epochs of 95,000 in batches of 1,024
    assert plan.epochs == pytest.approx(25, abs=0.02)
    given = planned(num_steps=464)
    assert (given.num_steps, round(given.epochs)) == (464, 5)


def test_a_resampler_makes_the_unets_pass_shorter() -> None:
    resampler = ConnectorConfig(kind="resampler").model_dump()
    plan = planned(connector=resampler)
    assert plan.connector > default().connector
    # 77 tokens to attend to instead of 608.
    assert plan.flops < planned(tokens="all").flops


def test_online_features_lie_beside_what_is_trained() -> None:
    cached, online = default(), planned(features="online")
    beside = online.memory[0].states - cached.memory[0].states
    assert beside == pytest.approx(2 * 7.27e9, rel=0.01)
    assert online.feature_hours > cached.feature_hours


def test_the_cache_pays_from_the_break_even_on() -> None:
    def compared(epochs: float) -> Comparison:
        return compare(
            num_samples=1000, num_crops=1000, num_trained=1000 * epochs, held_out=0,
            bytes_each=1e6, cached_each=1e-4, online_each=1e-4,
        )  # fmt: skip

    # 0.1 dollars of computing and 0.08 of disk.
    assert compared(1).break_even == pytest.approx(1.8)
    assert [compared(epochs).cheaper for epochs in (1, 1.7, 1.9, 10)] == [
        "online",
        "online",
        "cached",
        "cached",
    ]


def test_held_out_samples_are_cached_but_not_seen() -> None:
    found = compare(
        num_samples=1000, num_crops=4000, num_trained=900, held_out=0.1, bytes_each=0,
        cached_each=1, online_each=2,
    )  # fmt: skip
    assert found.epochs == pytest.approx(1)
    assert found.break_even == pytest.approx(4 * 0.5 / 0.9)

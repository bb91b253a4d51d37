from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reasonray.core.sections import ModelConfig
from reasonray.costs import architectures
from reasonray.costs.counting import count


def test_the_unet_of_stable_diffusion_takes_what_its_layers_add_up_to() -> None:
    unet = architectures.unet(ModelConfig(name="CompVis/stable-diffusion-v1-4"))
    products = 0

    def add(module: Any, inputs: object, result: torch.Tensor) -> None:
        nonlocal products
        outputs = result.numel() // module.weight.shape[0]
        products += outputs * module.weight.numel()

    for module in unet.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(add)
    counted = count(
        lambda: unet(
            torch.empty(1, 4, 64, 64),
            torch.empty(1),
            encoder_hidden_states=torch.empty(1, 77, 768),
        )
    )
    # Self-attention of n pixels and cross-attention to 77 tokens, width c: two products each.
    layers = [(64, 320, 5), (32, 640, 5), (16, 1280, 5), (8, 1280, 1)]
    attention = sum(number * 2 * side**2 * (side**2 + 77) * width for side, width, number in layers)
    assert counted.flops == 2 * (products + attention)
    # Others count 339 G multiplications with their additions, without those inside attention.
    assert products == pytest.approx(339e9, rel=0.01)


def test_llava_takes_two_flops_a_parameter_and_token() -> None:
    mllm = architectures.mllm(ModelConfig(name="llava-hf/llava-1.5-7b-hf"))
    model, length = mllm.model.language_model, 600
    counted = count(lambda: model(inputs_embeds=torch.empty(1, length, 4096), use_cache=False))
    weights = architectures.parameters(model) - model.get_input_embeddings().weight.numel()
    attention = 4 * length**2 * 4096 * 32
    assert counted.flops == pytest.approx(2 * weights * length + attention, rel=0.01)


def test_attention_counts_as_the_plain_products_do() -> None:
    query, key = torch.rand(2, 4, 10, 8), torch.rand(2, 4, 6, 8)
    plain = FlopCounterMode(display=False)
    with plain:
        (query @ key.transpose(-1, -2)).softmax(-1) @ key
    counted = count(
        lambda: torch.nn.functional.scaled_dot_product_attention(
            torch.empty(2, 4, 10, 8), torch.empty(2, 4, 6, 8), torch.empty(2, 4, 6, 8)
        )
    )
    assert counted.flops == plain.get_total_flops()


def test_the_peak_is_what_is_alive_at_once() -> None:
    with torch.device("meta"):
        layers = torch.nn.Sequential(*[torch.nn.Linear(100, 100) for _ in range(5)])
    # The input, which is held from outside, a layer's input and its output.
    assert count(lambda: layers(torch.empty(10, 100))).peak == 3 * 1000


def test_what_a_backward_pass_needs_grows_with_the_batch_and_leaves_out_weights() -> None:
    with torch.device("meta"):
        layers = torch.nn.Sequential(torch.nn.Linear(100, 50), torch.nn.GELU())

    def saved(size: int) -> int:
        return count(lambda: layers(torch.empty(size, 100)), gradients=True).saved

    # The linear layer's input and the activation's.
    assert saved(1) == 150
    assert saved(8) == 8 * 150
    assert count(lambda: layers(torch.empty(8, 100))).saved == 0

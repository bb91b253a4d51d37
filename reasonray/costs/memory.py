"""Memory of one training process: states, copies, activations; whole, sharded, or of adapters."""

from dataclasses import dataclass
from typing import Any

import torch

from reasonray.core.editor_sections import EditorConfig
from reasonray.costs import architectures
from reasonray.costs.work import WORKSPACE_BYTES
from reasonray.editor.unet import LORA_TARGETS

STATE_BYTES = 20
"""Of a trained weight in float32: itself, its gradient, two moments of AdamW, its average."""

AUTOCAST = 1.4
"""What autocast to bfloat16 keeps for the backward pass, over two bytes for each number: group and
layer norms and the SiLU behind them are in float32, and what is cast is kept beside its original.
Of Stable Diffusion 1.5's UNet at 256 pixels it keeps 363 MiB a sample, where two bytes make 263."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one worker.

    Attributes:
        states: weights, gradients, moments, averages.
        casts: copies of the weights in bfloat16 that autocast makes.
        activations: of a micro-batch, estimated.
    """

    name: str
    trained: int
    states: float
    casts: float
    activations: float

    @property
    def total(self) -> float:
        """Bytes, with what CUDA takes for itself."""
        return self.states + self.casts + self.activations + WORKSPACE_BYTES


def memory_plan(
    config: EditorConfig,
    unet: Any,
    connector: Any,
    frozen_bytes: float,
    saved: int,
    workers: int,
) -> list[Memory]:
    """A worker's memory, as the recipe has it and as it would be otherwise.

    Args:
        config: micro-batch and rank.
        unet, connector: on the meta device; a connector of None is none.
        frozen_bytes: of the frozen models, which the worker holds, too, where they are online.
        saved: numbers that one sample keeps for the backward pass.
        workers: of DDP and FSDP.
    """
    base = architectures.parameters(unet)
    ours = 0 if connector is None else architectures.parameters(connector)
    whole = base + ours
    half = 0 if config.precision == "float32" else 2
    activations = saved * config.machines.micro_batch_size * (AUTOCAST * half or 4)
    beside = frozen_bytes if config.features == "online" else 0.0
    # DDP's buckets hold each gradient once more; one worker has none.
    buckets = 4 if workers > 1 else 0
    block = max(architectures.parameters(each) for each in _blocks(unet))
    rank = config.lora_rank or 16
    adapters = lora_parameters(unet, rank) + ours
    return [
        Memory(f"all weights, DDP on {workers}", whole, (STATE_BYTES + buckets) * whole + beside,
               half * whole, activations),
        # What a block needs is gathered for its pass: its weights, then its gradients. Autocast's
        # copies stay until the backward pass.
        Memory(f"all weights, FSDP over {workers}", whole,
               STATE_BYTES * whole / workers + 8 * block + beside, half * whole, activations),
        Memory(f"LoRA of rank {rank}, DDP on {workers}", adapters,
               4 * base + (STATE_BYTES + buckets) * adapters + beside, half * (base + adapters),
               activations),
    ]  # fmt: skip


def lora_parameters(unet: Any, rank: int) -> int:
    """Of the adapters that a rank adds to a UNet's attention."""
    return sum(
        rank * (module.in_features + module.out_features)
        for name, module in unet.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(tuple(LORA_TARGETS))
    )


def _blocks(unet: Any) -> list[Any]:
    return [*unet.down_blocks, unet.mid_block, *unet.up_blocks]

"""FSDP: weights, gradients, averages and AdamW's states, each worker a slice of every tensor.

A checkpoint holds whole tensors, so that another number of workers, or DDP, goes on with it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(editor: nn.Module, device: torch.device) -> nn.Module:
    """The editor itself, its parts sharded over all workers; one that is already is left alone.

    Args:
        editor: `training.Editor` on the device; its UNet and connector are called by themselves,
            too, so that each is sharded by itself.
        device: this worker's.
    """
    parts: list[Any] = [part for part in editor.children() if part is not None]
    if any(isinstance(part, FSDPModule) for part in parts):
        return editor
    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in parts:
        blocks = [*getattr(part, "down_blocks", []), *getattr(part, "up_blocks", [])]
        if getattr(part, "mid_block", None) is not None:
            blocks.append(part.mid_block)
        for module in [*blocks, part]:
            # Gathered anew at each call: what stayed gathered would not see averaged weights.
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
            # Gloo gives the sum for the mean in some versions of torch (pytorch issue 162338).
            module.set_force_sum_reduction_for_comms(True)
    return editor


def whole(state: Any, keep: bool = True) -> Any:
    """A state with its tensors whole and on the CPU; to be called by every worker alike.

    Args:
        state: dicts and lists of tensors and numbers.
        keep: False gives None for each sharded tensor, on workers that only help to gather.
    """
    if isinstance(state, DTensor):
        gathered = state.full_tensor().detach()
        return gathered.cpu() if keep else None
    if isinstance(state, dict):
        return {key: whole(value, keep) for key, value in state.items()}
    if isinstance(state, list):
        return [whole(value, keep) for value in state]
    return state


def sharded_as(value: Any, parameter: Tensor) -> Any:
    """A whole tensor sharded like the parameter that it belongs to; anything else as it is."""
    if not isinstance(parameter, DTensor) or getattr(value, "shape", None) != parameter.shape:
        return value
    place = value.to(parameter.device)
    # Every worker has read the whole checkpoint: nothing is to be sent.
    return distribute_tensor(place, parameter.device_mesh, parameter.placements, src_data_rank=None)


def optimizer_state(state: dict[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """An optimiser's whole state, sharded as its parameters are."""
    return {
        **state,
        "state": {
            index: {name: sharded_as(value, parameters[index]) for name, value in each.items()}
            for index, each in state["state"].items()
        },
    }

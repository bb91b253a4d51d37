"""What a forward pass takes, counted on the meta device: nothing is computed or allocated."""

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Forward:
    """Of one call.

    Attributes:
        flops: two for each multiplication with its addition, in convolutions and matrix products.
        peak: numbers in all tensors that are alive at once, weights and inputs not among them.
        saved: numbers kept for the backward pass, weights not among them; 0 without gradients.
    """

    flops: int
    peak: int
    saved: int = 0


def count(call: Callable[[], Any], *, gradients: bool = False) -> Forward:
    """Count a call of modules on the meta device.

    Args:
        call: makes its inputs, too.
        gradients: count what the backward pass needs.
    """
    attention, alive, saved = _Attention(), _Alive(), _Saved()
    flops = FlopCounterMode(display=False)
    saving = (
        torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack)
        if gradients
        else contextlib.nullcontext()
    )
    mode = torch.set_grad_enabled(gradients)
    with torch.device("meta"), mode, saving, alive, flops, attention:
        call()
    return Forward(flops.get_total_flops() + attention.flops, alive.peak, saved.numbers)


class _Attention(TorchFunctionMode):
    """Counts attention as the fused kernels do it, which never hold the matrix of all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.nn.functional.scaled_dot_product_attention:
            query, key, value = (
                args[i] if i < len(args) else (kwargs or {})[name]
                for i, name in enumerate(("query", "key", "value"))
            )
            pairs = query.numel() // query.shape[-1] * key.shape[-2]
            self.flops += 2 * pairs * (query.shape[-1] + value.shape[-1])
            return _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]
        return function(*args, **(kwargs or {}))


class _Fused(torch.autograd.Function):
    """The shape of attention's result; keeps for its backward pass what the fused kernels keep."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError


class _Alive(TorchDispatchMode):
    """Follows tensors from their making to their end; answers checks of values with yes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001  its only name
            # "Is the mask all true?", "do the shapes agree?": there are no values to look at.
            return True if args[0].dtype == torch.bool else 1
        result = function(*args, **(kwargs or {}))
        inputs = {_storage(each) for each in args if isinstance(each, torch.Tensor)}
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, torch.Tensor) and _storage(each) not in inputs:
                self._now += each.numel()
                self.peak = max(self.peak, self._now)
                weakref.finalize(each.untyped_storage(), self._let_go, each.numel())
        return result

    def _let_go(self, numbers: int) -> None:
        self._now -= numbers


class _Saved:
    """What autograd saves, each storage once."""

    def __init__(self) -> None:
        self.numbers = 0
        self._storages: dict[int, Any] = {}

    def pack(self, tensor: Any) -> Any:
        # Of a view the tensor that it looks at; nothing public tells (checked with torch 2.13).
        whole = tensor if tensor._base is None else tensor._base  # noqa: SLF001
        if not isinstance(whole, torch.nn.Parameter) and _storage(whole) not in self._storages:
            self._storages[_storage(whole)] = whole
            self.numbers += whole.numel()
        return tensor

    def unpack(self, tensor: Any) -> Any:
        return tensor


def _storage(tensor: torch.Tensor) -> int:
    # On the meta device all data_ptr() are 0 (checked with torch 2.13).
    address: int = tensor.untyped_storage()._cdata  # noqa: SLF001
    return address

import pytest
import torch

from reasonray.core.memory import free_memory, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_only_what_did_not_fit_is_told_as_that(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_memory_is_freed_on_a_machine_without_a_gpu_too() -> None:
    free_memory()

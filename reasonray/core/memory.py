"""What does not fit into the memory: how that is told from other errors, and how room is made.

Torch is not imported here, so that what does without it need not load it.
"""

import gc
import sys

_OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "_STATUS_ALLOC_FAILED")
"""What torch's CPU allocator, cuBLAS and cuDNN say of it, all in a plain RuntimeError."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that something did not fit into the machine's or a GPU's memory."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError):
        return True
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def free_memory() -> None:
    """Give back what a failed batch held: objects in cycles, then torch's own reserve.

    To be called when the error is gone: its traceback keeps alive all that the batch needed.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.cuda.empty_cache()  # without a GPU it does nothing

"""Pixels from bytes, 0..255, to what a network sees, -1..1, and back; RGB."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(
    images: Iterable[Any], dtype: torch.dtype = torch.float32, device: Any = "cpu"
) -> Tensor:
    """BCHW, -1..1, computed in `dtype`, of PIL's or uint8 HWC pictures of one size."""
    pixels_BHWC = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return pixels_BHWC.permute(0, 3, 1, 2).to(device, dtype) / 127.5 - 1


def to_images(pixels_BCHW: Tensor) -> list[Image.Image]:
    """Pictures of pixels on the CPU; what lies beyond -1..1 is cut off."""
    bytes_BCHW = ((pixels_BCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(array) for array in bytes_BCHW.permute(0, 2, 3, 1).numpy()]

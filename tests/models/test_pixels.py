import numpy as np
import pytest
import torch
from PIL import Image

from reasonray.models.pixels import to_images, to_tensor

# Every byte once, in three channels.
PICTURE = np.stack([np.roll(np.arange(256, dtype=np.uint8), i) for i in range(3)], -1)[None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_bytes_are_scaled_in_the_dtype_that_is_asked_for(dtype: torch.dtype) -> None:
    pixels = to_tensor([PICTURE, Image.fromarray(PICTURE)], dtype)
    assert pixels.shape == (2, 3, 1, 256)
    assert pixels.dtype == dtype
    plain = torch.arange(256).to(dtype) / 127.5 - 1
    assert (pixels[:, 0, 0] == plain).all()
    assert (pixels.amin().item(), pixels.amax().item()) == (-1, 1)


def test_pixels_give_their_bytes_back() -> None:
    [picture] = to_images(to_tensor([PICTURE]))
    assert (np.asarray(picture) == PICTURE).all()


def test_what_lies_beyond_the_range_is_cut_off() -> None:
    pixels = torch.tensor([-7, -1.001, 0, 1.001, 7]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert np.asarray(to_images(pixels)[0])[0, :, 0].tolist() == [0, 0, 128, 255, 255]

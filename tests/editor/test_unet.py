import pytest
import tiny_editor
import torch

from reasonray.editor.unet import with_image_channels


def test_new_image_channels_start_silent() -> None:
    plain = tiny_editor.unet(in_channels=4)
    noisy, source = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)
    text = torch.randn(2, 3, tiny_editor.WIDTH)
    with torch.no_grad():
        expected = plain(noisy, 10, encoder_hidden_states=text).sample
        wide = with_image_channels(plain, 4)
        got = wide(torch.cat([noisy, source], 1), 10, encoder_hidden_states=text).sample
    assert wide.config.in_channels == 8
    assert torch.allclose(got, expected, atol=1e-6)
    assert with_image_channels(wide, 4) is wide
    with pytest.raises(ValueError, match="9 channels"):
        with_image_channels(tiny_editor.unet(in_channels=9), 4)

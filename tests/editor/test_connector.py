import torch

from reasonray.editor.connector import Connector


def test_an_mlp_maps_each_token_alone_and_a_resampler_gives_a_fixed_length() -> None:
    torch.manual_seed(0)
    states, mask = torch.randn(2, 9, 12), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    mlp = Connector(12, 16)
    given, given_mask = mlp(states, mask)
    assert given.shape == (2, 9, 16)
    assert torch.equal(given_mask, mask)
    assert torch.allclose(mlp(states[:, 3:4], mask[:, 3:4])[0], given[:, 3:4], atol=1e-6)
    resampler = Connector(12, 16, kind="resampler", num_queries=5, num_heads=2)
    read, read_mask = resampler(states, mask)
    assert read.shape == (2, 5, 16)
    assert read_mask.all()
    states[1, 6:] = 9.0
    assert torch.allclose(resampler(states, mask)[0], read, atol=1e-6)

"""From a multimodal language model's hidden states to the UNet's cross-attention: the trained link.

Shapes: B samples, T tokens read, L tokens given to the UNet, D and C their widths.
"""

from typing import Any, Literal, Self

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from reasonray.core.editor_sections import ConnectorConfig
from reasonray.core.errors import UserError


class Connector(ModelMixin, ConfigMixin):
    """Maps the frozen model's states to what a UNet attends to.

    Args:
        input_dim: width D of the hidden states.
        output_dim: width C of the UNet's cross-attention.
        kind: "mlp" maps each token by itself (the paper's framework); "resampler" reads them all
            into a fixed number of learned queries (as Q-Formers and Perceiver resamplers do).
        num_queries, num_layers, num_heads: of the resampler; no effect on an mlp.

    Raises:
        ValueError: a resampler's heads do not divide its width.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        kind: Literal["mlp", "resampler"] = "mlp",
        num_queries: int = 77,
        num_layers: int = 2,
        num_heads: int = 8,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if kind == "resampler" and output_dim % num_heads:
            raise ValueError(
                f"num_heads {num_heads}: must divide {output_dim}, the width of the UNet's "
                "cross-attention"
            )
        # Hidden states of a language model hold a few very large channels.
        self.norm = nn.LayerNorm(input_dim)
        self.project = nn.Sequential(
            nn.Linear(input_dim, output_dim), nn.GELU(), nn.Linear(output_dim, output_dim)
        )
        self.out_norm = nn.LayerNorm(output_dim)
        self.queries: nn.Parameter | None = None
        if kind == "resampler":
            self.queries = nn.Parameter(torch.randn(1, num_queries, output_dim) * 0.02)
            self.layers = nn.ModuleList(
                nn.TransformerDecoderLayer(
                    output_dim,
                    num_heads,
                    2 * output_dim,
                    dropout=0.0,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(num_layers)
            )

    @classmethod
    def of(cls, config: ConnectorConfig, input_dim: int, output_dim: int) -> Self:
        """A recipe's connector, on the device of the context.

        Raises:
            UserError: its settings do not go with the UNet.
        """
        try:
            connector: Self = cls(input_dim, output_dim, **config.model_dump())
        except ValueError as error:
            raise UserError(f"editor.connector.{error}") from error
        return connector

    def forward(self, states_BTD: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The UNet's `encoder_hidden_states` and `encoder_attention_mask`.

        Args:
            states_BTD: hidden states, any float dtype.
            mask_BT: bool, False on padding.

        Returns:
            States BLC and a bool mask BL; L is T for an mlp, `num_queries` for a resampler.
        """
        states_BTC: Tensor = self.project(self.norm(states_BTD.to(self.norm.weight.dtype)))
        if self.queries is None:
            return self.out_norm(states_BTC), mask_BT
        read_BLC: Any = self.queries.expand(len(states_BTC), -1, -1)
        for layer in self.layers:
            read_BLC = layer(read_BLC, states_BTC, memory_key_padding_mask=~mask_BT)
        return self.out_norm(read_BLC), mask_BT.new_ones(read_BLC.shape[:2])

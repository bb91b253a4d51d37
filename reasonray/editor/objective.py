"""The losses of both stages of a training.

Shapes: B samples, C latent channels, H x W cells, T tokens, D width.
"""

import contextlib
from typing import Any

import torch
from diffusers.training_utils import compute_snr
from torch import Tensor, nn

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.editor.batches import Batch
from reasonray.models.weights import has_bfloat16


class Objective:
    """The losses: sums over a batch's samples of their mean squared errors.

    Args:
        scheduler: `DDIMScheduler`: noise schedule and kind of prediction.
        config: precision and weighting.
        scaling_factor: the VAE's, of the target's latents.
    """

    def __init__(self, scheduler: Any, config: EditorConfig, scaling_factor: float) -> None:
        self.scheduler, self.config, self.scale = scheduler, config, scaling_factor
        kinds = ("epsilon", "v_prediction", "sample")
        if scheduler.config.prediction_type not in kinds:
            raise UserError(f"the base's scheduler predicts {scheduler.config.prediction_type}")

    def editing(self, editor: nn.Module, batch: Batch, device: torch.device) -> Tensor:
        """Eq. 9's training: the error of the denoising prediction, min-SNR weighted if asked."""
        batch = batch.to(device)
        noisy, times, target, noise = self._noised(batch)
        mask = batch.mask if self.config.condition == "mllm" else None
        with precision(self.config, device):
            predicted = editor("predict", noisy, times, batch.states.float(), mask)
        kind = self.scheduler.config.prediction_type
        truth = {"epsilon": noise, "sample": target}.get(kind)
        if truth is None:
            truth = self.scheduler.get_velocity(target, noise, times)
        errors_B = (predicted.float() - truth).square().flatten(1).mean(1)
        if self.config.min_snr_gamma is not None:
            errors_B = errors_B * self._min_snr(times, kind)
        total: Tensor = errors_B.sum()
        return total

    def alignment(self, editor: nn.Module, batch: Batch, device: torch.device) -> Tensor:
        """The distance of the two conditions, or of the UNet's predictions under them.

        Raises:
            UserError: the features were computed without the text encodings.
        """
        batch = batch.to(device)
        if batch.taught is None:
            raise UserError(f"no text encoding in the features of {batch.ids[0]}")
        taught, states, mask = batch.taught.float(), batch.states.float(), batch.mask
        with precision(self.config, device):
            if self.config.connector.gives(taught.shape[1]):
                truth, (predicted, _) = taught, editor("condition", states, mask)
            else:
                noisy, times, _, _ = self._noised(batch)
                with torch.no_grad():
                    truth = editor("predict", noisy, times, taught, None)
                predicted = editor("predict", noisy, times, states, mask)
        errors_B: Tensor = (predicted.float() - truth.float()).square().flatten(1).mean(1)
        return errors_B.sum()

    def _noised(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        last = self.scheduler.config.num_train_timesteps
        times = (batch.times * last).long().clamp(max=last - 1)
        target, noise = batch.target.float() * self.scale, batch.noise
        noisy = self.scheduler.add_noise(target, noise, times)
        return torch.cat([noisy, batch.source.float()], dim=1), times, target, noise

    def _min_snr(self, times: Tensor, kind: str) -> Tensor:
        snr_B: Tensor = compute_snr(self.scheduler, times)
        gamma = self.config.min_snr_gamma
        weight_B = snr_B.clamp(max=gamma)
        # Min-SNR (Hang et al., 2023), equation 5 in the terms of what is predicted.
        return {
            "epsilon": weight_B / snr_B.clamp(min=1e-8),
            "v_prediction": weight_B / (snr_B + 1),
            "sample": weight_B,
        }[kind]


def precision(config: EditorConfig, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Autocast to bfloat16 if the recipe says so, or, on auto, where the device computes in it."""
    is_half = config.precision == "bfloat16" or (
        config.precision == "auto" and has_bfloat16(device)
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=is_half)

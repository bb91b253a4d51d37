"""One process's part of the training: two stages of steps, each a function of its number.

First the connector is aligned: it is to give what the text encoder gives for the direct
instruction, as in SmartEdit. Where the two have not the same length, as with an mlp, the UNet,
frozen, compares them: it is to predict from the one what it predicts from the other. Then connector
and UNet learn the denoising loss on the targets. It knows of Ray only what it is handed: rank,
number of workers, how a module is wrapped, where checkpoints go.

Shapes: B samples, C latent channels, H x W cells, T tokens, D width.
"""

import contextlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel, compute_snr
from PIL.Image import Image
from torch import Tensor, nn

from reasonray.editor import sharding
from reasonray.editor.batches import Batch, Batches, ahead
from reasonray.editor.connector import Connector
from reasonray.editor.loggers import Logger
from reasonray.editor.weights import (
    LORA_TARGETS,
    check_channels,
    load_config,
    load_part,
    with_image_channels,
)
from reasonray.errors import RunError, UserError
from reasonray.recipe import EditorConfig
from reasonray.workspace import write_file

STAGES = ("alignment", "editing")
METRICS = "metrics.jsonl"


class Editor(nn.Module):
    """What is trained: the UNet and, with a multimodal model, the connector."""

    def __init__(self, unet: Any, connector: Connector | None) -> None:
        super().__init__()
        # Any: modules called through their attribute are untyped.
        self.unet: Any = unet
        self.connector: Any = connector

    def forward(
        self, noisy: Tensor | None, times: Tensor, states: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The UNet's prediction BCHW, or what the connector gives to it, BLC.

        Args:
            noisy: B,2C,H,W, noisy target latents and the source's; None asks for the connector's.
            times: B, the scheduler's timesteps.
            states: BTD of the frozen model, through the connector if there is one.
            mask: bool BT, or None for CLIP's text encoding.
        """
        if mask is not None and self.connector is not None:
            states, mask = self.connector(states, mask)
        if noisy is None:
            return states
        predicted: Tensor = self.unet(
            noisy, times, encoder_hidden_states=states, encoder_attention_mask=mask
        ).sample
        return predicted


def check(config: EditorConfig) -> None:
    """Find what would stop `load_editor`, from the base's config alone.

    Raises:
        UserError: the base is not there or of another kind, the connector does not fit it, or
            adapters are asked for without peft.
    """
    from diffusers import UNet2DConditionModel

    unet = load_config(UNet2DConditionModel, config.base, "unet")
    load_scheduler(config)
    try:
        check_channels(unet["in_channels"], unet["out_channels"])
    except ValueError as error:
        raise UserError(f"editor.base {config.base.name}: {error}") from error
    if config.condition == "mllm":
        width = unet["cross_attention_dim"]
        with torch.device("meta"):
            Connector.of(config.connector, width, width)
    if config.lora_rank is not None and importlib.util.find_spec("peft") is None:
        raise UserError("editor.lora_rank: needs the package peft: pip install peft")


def load_editor(config: EditorConfig, input_dim: int, seed: int) -> tuple[Editor, Any]:
    """The editor before any training, float32, and the base's scheduler.

    Args:
        config: base, connector, adapters.
        input_dim: width of the frozen model's states.
        seed: of the connector's and the adapters' first weights.

    Raises:
        UserError: as `check`, or the base's weights cannot be read.
    """
    from diffusers import UNet2DConditionModel

    check(config)
    unet = load_part(UNet2DConditionModel, config.base, "unet", torch_dtype=torch.float32)
    sees_pictures = unet.config.in_channels != unet.config.out_channels
    with_image_channels(unet, unet.config.out_channels)
    torch.manual_seed(seed)
    connector = None
    if config.condition == "mllm":
        width = unet.config.cross_attention_dim
        connector = Connector.of(config.connector, input_dim, width)
    if config.lora_rank is not None:
        from peft import LoraConfig

        unet.add_adapter(
            LoraConfig(
                r=config.lora_rank,
                lora_alpha=config.lora_rank,
                init_lora_weights="gaussian",
                target_modules=LORA_TARGETS,
            )
        )
        # The source picture's channels, if they are new, are zero: no adapter makes up for them.
        unet.conv_in.requires_grad_(not sees_pictures)
    return Editor(unet, connector), load_scheduler(config)


def load_scheduler(config: EditorConfig) -> Any:
    """The base's noise schedule as a `DDIMScheduler`, which has all that training needs.

    Raises:
        UserError: the base has none.
    """
    from diffusers import DDIMScheduler

    said = load_config(DDIMScheduler, config.base, "scheduler")
    # Stable Diffusion's own settings for what another kind of scheduler leaves open: DDIM's
    # defaults are for pixels, and cut latents off at 1.
    latents = {"clip_sample": False, "set_alpha_to_one": False}
    return DDIMScheduler.from_config({**latents, **said})


@dataclass
class Worker:
    """What a training process is handed.

    Attributes:
        rank, world_size: of all workers.
        device: where it computes.
        wrap: makes a module one whose gradients are averaged over the workers.
        save: told the stage, the step and a state to keep, on every rank.
        restored: the state of the last checkpoint, if there is one.
        folder: metrics go there, from rank 0.
        loggers: told tag, value and step, from rank 0.
        sharded: no worker has the whole weights, so that all compute what one wants to know.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    save: Callable[[dict[str, Any]], None] = lambda state: None
    restored: dict[str, Any] | None = None
    folder: Path | None = None
    loggers: Sequence[Logger] = ()
    sharded: bool = False

    def take(self, stage: str) -> dict[str, Any] | None:
        """The restored state of a stage, given away: it is a second set of weights."""
        if self.restored is None or self.restored["stage"] != stage:
            return None
        state, self.restored = self.restored, None
        return state


def train(
    editor: Editor,
    scheduler: Any,
    batches: Batches,
    held_out: Batches | None,
    config: EditorConfig,
    worker: Worker,
    scaling_factor: float,
    draw: Callable[[Editor, int], Image | None] | None = None,
) -> Editor:
    """Train, or go on from the worker's restored state.

    Args:
        editor: `load_editor`'s; trained in place.
        scheduler: the base's, for its noise schedule and what the UNet predicts.
        batches, held_out: to train on and to measure by; None: nothing is measured.
        config: steps, rates, sizes.
        worker: this process.
        scaling_factor: the VAE's.
        draw: gives a sheet of sample edits, or None; told the editor with its averaged weights
            and the step, at validations; on rank 0, on all if the weights are sharded.

    Returns:
        The editor itself with its averaged weights.

    Raises:
        RunError: the loss is not a number any more; the batch's ids are in nan-batch.json.
    """
    before = config.alignment_steps if config.condition == "mllm" else 0
    log = _Log(worker, before)
    objective = Objective(scheduler, config, scaling_factor)
    editor.to(worker.device)
    is_aligned = worker.restored is not None and worker.restored["stage"] == "editing"
    if before and not is_aligned:
        _align(editor, objective, batches, config, worker, log)
    stage = _Stage("editing", editor, config, worker, config.num_steps)

    def validate(step: int) -> None:
        with stage.averaged():
            if held_out is not None:
                value = held_out_loss(editor, objective, held_out, worker)
                log.write("editing", step, {"held_out": value})
            if draw is not None and (worker.rank == 0 or worker.sharded):
                sheet = draw(editor, step)
                if sheet is not None:
                    log.image("samples", step, sheet)

    if stage.step == 0:
        validate(0)
    upcoming = ahead(stage.micro_batches(batches))
    for step in range(stage.step, config.num_steps):
        stage.advance(upcoming, objective.editing, log)
        done = step + 1 == config.num_steps
        if done or (step + 1) % config.validate_every == 0:
            validate(step + 1)
        if done or (step + 1) % config.checkpoint_every == 0:
            log.flush()
            worker.save(stage.state())
    stage.end()
    log.close()
    return editor


def _align(
    editor: Editor,
    objective: "Objective",
    batches: Batches,
    config: EditorConfig,
    worker: Worker,
    log: "_Log",
) -> None:
    # The text encoding of nothing is not among the features.
    kept = config.model_copy(update={"dropout": 0.0})
    batches = Batches(batches.samples, batches.indices.tolist(), kept, batches.seed)
    trained = {name: p.requires_grad for name, p in editor.unet.named_parameters()}
    editor.unet.requires_grad_(False)
    stage = _Stage("alignment", editor, config, worker, config.alignment_steps)
    upcoming = ahead(stage.micro_batches(batches))
    for step in range(stage.step, config.alignment_steps):
        stage.advance(upcoming, objective.alignment, log)
        if step + 1 == config.alignment_steps or (step + 1) % config.checkpoint_every == 0:
            log.flush()
            worker.save(stage.state())
    stage.end()
    for name, parameter in editor.unet.named_parameters():
        parameter.requires_grad_(trained[name])


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
        noisy, times, target, noise = self._noised(batch, device)
        mask = batch.mask.to(device) if self.config.condition == "mllm" else None
        with precision(self.config, device):
            predicted = editor(noisy, times, batch.states.to(device).float(), mask)
        kind = self.scheduler.config.prediction_type
        wanted = {"epsilon": noise, "sample": target}.get(kind)
        if wanted is None:
            wanted = self.scheduler.get_velocity(target, noise, times)
        errors_B = (predicted.float() - wanted).square().flatten(1).mean(1)
        if self.config.min_snr_gamma is not None:
            errors_B = errors_B * self._min_snr(times, kind)
        total: Tensor = errors_B.sum()
        return total

    def alignment(self, editor: nn.Module, batch: Batch, device: torch.device) -> Tensor:
        """The distance of the two conditions, or of the UNet's predictions under them.

        Raises:
            UserError: the features were computed without the text encodings.
        """
        if batch.taught is None:
            raise UserError(f"no text encoding in the features of {batch.ids[0]}")
        taught, states = batch.taught.to(device).float(), batch.states.to(device).float()
        mask = batch.mask.to(device)
        with precision(self.config, device):
            if self.config.connector.gives(taught.shape[1]):
                wanted, predicted = taught, editor(None, batch.times, states, mask)
            else:
                noisy, times, _, _ = self._noised(batch, device)
                with torch.no_grad():
                    wanted = editor(noisy, times, taught, None)
                predicted = editor(noisy, times, states, mask)
        errors_B: Tensor = (predicted.float() - wanted.float()).square().flatten(1).mean(1)
        return errors_B.sum()

    def _noised(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        last = self.scheduler.config.num_train_timesteps
        times = (batch.times * last).long().clamp(max=last - 1).to(device)
        target, noise = batch.target.to(device).float() * self.scale, batch.noise.to(device)
        noisy = self.scheduler.add_noise(target, noise, times)
        return torch.cat([noisy, batch.source.to(device).float()], dim=1), times, target, noise

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
    """Autocast as the recipe says."""
    if config.precision == "auto":
        wanted = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
    else:
        wanted = config.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(wanted))


@torch.no_grad()
def held_out_loss(editor: Editor, objective: Objective, held_out: Batches, worker: Worker) -> float:
    """The mean editing loss of held-out samples, at noise and times that never change."""
    total, count = 0.0, 0
    size = held_out.config.micro_batch_size
    for start in range(0, held_out.config.batch_size, size):
        places = range(start, min(start + size, held_out.config.batch_size))
        total += objective.editing(editor, held_out.part(0, places), worker.device).item()
        count += len(places)
    return total / count


class _Stage:
    """An optimiser's life: steps, averages, what a checkpoint holds."""

    def __init__(
        self,
        name: str,
        editor: Editor,
        config: EditorConfig,
        worker: Worker,
        num_steps: int,
    ) -> None:
        state = worker.take(name)
        self.name, self.editor, self.config, self.worker = name, editor, config, worker
        if state is not None:
            editor.load_state_dict(state["editor"])
        self.wrapped = worker.wrap(editor)
        self.trained = [p for p in self.wrapped.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.rate = get_scheduler(
            "constant_with_warmup" if config.schedule == "constant" else "cosine",
            self.optimizer,
            num_warmup_steps=config.num_warmup_steps,
            num_training_steps=num_steps,
        )
        self.average = EMAModel(self.trained, decay=config.ema_decay)
        share, micro = config.batch_size // worker.world_size, config.micro_batch_size
        own = range(worker.rank * share, (worker.rank + 1) * share)
        self.shares = [own[start : start + micro] for start in range(0, share, micro)]
        self.step, self.num_steps = 0, num_steps
        if state is not None:
            optimizer = sharding.optimizer_state(state["optimizer"], self.trained)
            self.optimizer.load_state_dict(optimizer)
            self.rate.load_state_dict(state["rate"])
            averages = zip(state["average"]["shadow_params"], self.trained, strict=True)
            shadows = [sharding.sharded_as(value, parameter) for value, parameter in averages]
            self.average.load_state_dict({**state["average"], "shadow_params": shadows})
            self.average.to(worker.device)
            self.step = state["step"]

    def micro_batches(self, batches: Batches) -> Iterator[Batch]:
        """Of this worker's part of each batch, from the next step to the last."""
        for step in range(self.step, self.num_steps):
            for places in self.shares:
                yield batches.part(step, places)

    def advance(
        self,
        upcoming: Iterator[Batch],
        loss: Callable[[nn.Module, Batch, torch.device], Tensor],
        log: "_Log",
    ) -> None:
        """One optimiser step, over the next of `micro_batches`."""
        worker, size = self.worker, self.config.batch_size
        total = torch.zeros((), device=worker.device)
        self.wrapped.train()
        for number in range(len(self.shares)):
            batch, last = next(upcoming), number + 1 == len(self.shares)
            with contextlib.nullcontext() if last else _unsynchronised(self.wrapped):
                value = loss(self.wrapped, batch, worker.device)
                if not torch.isfinite(value):
                    self._stop(batch, log)
                # Gradients are averaged over the workers, and are to be those of the whole batch.
                (value * worker.world_size / size).backward()
            total += value.detach()
        if worker.world_size > 1:
            torch.distributed.all_reduce(total)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.step(self.trained)
        self.step += 1
        figures = {"loss": total.item() / size, "grad_norm": float(sharding.whole(norm))}
        log.write(self.name, self.step, figures)

    def _stop(self, batch: Batch, log: "_Log") -> None:
        path = log.folder / "nan-batch.json" if log.folder else None
        if path:
            content = {"stage": self.name, "step": self.step, "ids": batch.ids}
            path.write_text(json.dumps(content, indent=2))
        raise RunError(
            f"{self.name} step {self.step}: the loss is not a number; the samples of this batch "
            f"are in {path}; look at them, or lower editor.learning_rate and give another output; "
            "the same command would end here again"
        )

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The editor with its averaged weights."""
        self.average.store(self.trained)
        self.average.copy_to(self.trained)
        self.editor.eval()
        try:
            yield
        finally:
            self.average.restore(self.trained)

    def end(self) -> None:
        """Leave the averaged weights in the editor."""
        self.average.copy_to(self.trained)
        self.editor.eval()

    def state(self) -> dict[str, Any]:
        """All that going on needs, on rank 0; the data and the noise follow from the step."""
        state: dict[str, Any] = sharding.whole(
            {
                "stage": self.name,
                "step": self.step,
                "editor": dict(self.editor.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "rate": self.rate.state_dict(),
                "average": self.average.state_dict(),
            },
            keep=self.worker.rank == 0,
        )
        return state


def _unsynchronised(module: nn.Module) -> contextlib.AbstractContextManager[Any]:
    no_sync: Any = getattr(module, "no_sync", contextlib.nullcontext)
    context: contextlib.AbstractContextManager[Any] = no_sync()
    return context


class _Log:
    """`metrics.jsonl`, a line for each step, and the loggers; on rank 0.

    Args:
        worker: who logs what, where.
        before: steps of the alignment.
    """

    def __init__(self, worker: Worker, before: int) -> None:
        self.folder, self.before = worker.folder, before
        self.path: Path | None = None
        self.loggers: Sequence[Logger] = () if worker.rank else worker.loggers
        if worker.rank or worker.folder is None:
            return
        self.path = worker.folder / METRICS
        # A resumed run does the steps after its checkpoint again.
        kept = [line for line in read_metrics(self.path) if _is_before(line, worker.restored)]
        write_file(self.path, "".join(f"{json.dumps(line)}\n" for line in kept))

    def write(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Figures after a step (1 is the first; 0: before any)."""
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"stage": stage, "step": step, **figures}) + "\n")
        total = step + (self.before if stage == "editing" else 0)
        for name, value in figures.items():
            tag = f"{stage}/{name}"
            for logger in self.loggers:
                if logger.last_step(tag) < total:
                    logger.scalar(tag, value, total)

    def image(self, tag: str, step: int, image: Image) -> None:
        """A picture after a step of the editing."""
        for logger in self.loggers:
            if logger.last_step(tag) < step + self.before:
                logger.image(tag, image, step + self.before)

    def flush(self) -> None:
        """Before a checkpoint: what came before it is not told again."""
        for logger in self.loggers:
            logger.flush()

    def close(self) -> None:
        """At the end."""
        for logger in self.loggers:
            logger.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, without one that a kill has cut off; none without a file."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def _is_before(line: dict[str, Any], state: dict[str, Any] | None) -> bool:
    if state is None:
        return False
    place = (STAGES.index(line["stage"]), line["step"])
    return place <= (STAGES.index(state["stage"]), state["step"])

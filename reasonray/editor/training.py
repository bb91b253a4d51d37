"""One process's part of the training: two stages of steps, each a function of its number.

First the connector is aligned: it is to give what the text encoder gives for the direct
instruction, as in SmartEdit. Where the two have not the same length, as with an mlp, the UNet,
frozen, compares them: it is to predict from the one what it predicts from the other. Then connector
and UNet learn the denoising loss on the targets. It knows of Ray only what it is handed: rank,
number of workers, how a module is wrapped, where checkpoints go.

Shapes: B samples, C latent channels, H x W cells, T tokens, D width.
"""

import contextlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from PIL.Image import Image
from torch import Tensor, nn

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import RunError
from reasonray.editor import sharding
from reasonray.editor.batches import FEEDERS, Batch, Batches, ahead
from reasonray.editor.loggers import Logger
from reasonray.editor.metrics_log import MetricsLog
from reasonray.editor.model import Editor
from reasonray.editor.objective import Objective

NAN_BATCH = "nan-batch.json"
"""Stage, step and ids of a batch whose loss is not a number."""


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


@dataclass(frozen=True)
class Stage:
    """A part of the training with steps, and an optimiser, of its own.

    Attributes:
        name: in the metrics; one of `metrics_log.STAGES`.
        num_steps: of the optimiser.
        learning_rate: its highest.
        batches: that it sees.
        loss: the sum of a batch's errors under the editor, as `Objective` has it.
        trained: names of the editor's parameters that it changes.
        validate: told the steps done, before the first and now and then, while the editor has its
            averaged weights; gives the held-out loss, if there is one. None: nothing is measured.
    """

    name: str
    num_steps: int
    learning_rate: float
    batches: Batches
    loss: Callable[[nn.Module, Batch, torch.device], Tensor]
    trained: Collection[str]
    validate: Callable[[int], float | None] | None = None


def train(
    editor: Editor,
    scheduler: Any,
    batches: Batches,
    held_out: Sequence[Batches],
    config: EditorConfig,
    worker: Worker,
    scaling_factor: float,
    draw: Callable[[Editor, int], Image | None] | None = None,
) -> Editor:
    """Train, or go on from the worker's restored state.

    Args:
        editor: `load_editor`'s; trained in place, what asks for gradients in it.
        scheduler: the base's, for its noise schedule and what the UNet predicts.
        batches: to train on.
        held_out: to measure by (`batches.of_all`); none: nothing is measured.
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
    is_first = worker.rank == 0
    alignment_steps = config.alignment_steps if config.condition == "mllm" else 0
    log = MetricsLog(
        worker.folder if is_first else None,
        worker.loggers if is_first else (),
        alignment_steps,
        worker.restored,
    )
    objective = Objective(scheduler, config, scaling_factor)
    editor.to(worker.device)

    def validate(step: int) -> float | None:
        value = None
        if held_out:
            value = held_out_loss(editor, objective, held_out, worker)
            log.write("editing", step, {"held_out": value})
        if draw is not None and (is_first or worker.sharded):
            sheet = draw(editor, step)
            if sheet is not None:
                log.image("samples", step, sheet)
        return value

    num_steps = config.steps(len(batches.indices))
    names = {name for name, parameter in editor.named_parameters() if parameter.requires_grad}
    rate, loss = config.learning_rate, objective.editing
    stages = [Stage("editing", num_steps, rate, batches, loss, names, validate)]
    is_aligned = worker.restored is not None and worker.restored["stage"] == "editing"
    if alignment_steps and not is_aligned:
        # The text encoding of nothing is not among the features.
        undropped = config.model_copy(update={"dropout": 0.0})
        indices = batches.indices.tolist()
        heard = Batches(batches.samples, indices, undropped, batches.seed, batches.pinned)
        connector = {name for name in names if name.startswith("connector.")}
        rate, loss = config.alignment_learning_rate, objective.alignment
        stages.insert(0, Stage("alignment", alignment_steps, rate, heard, loss, connector))
    for stage in stages:
        _run(stage, editor, config, worker, log)
    log.close()
    return editor


def _run(
    stage: Stage, editor: Editor, config: EditorConfig, worker: Worker, log: MetricsLog
) -> None:
    steps = _Steps(stage, editor, config, worker)
    if steps.done == 0:
        steps.validate()
    upcoming = ahead(steps.micro_batches(), FEEDERS if stage.batches.pinned else 1)
    while steps.done < stage.num_steps and not steps.is_over:
        steps.advance(upcoming, log)
        is_last = steps.done == stage.num_steps
        if is_last or steps.done % config.validation.validate_every == 0:
            steps.validate()
        if is_last or steps.done % config.machines.checkpoint_every == 0:
            log.flush()
            worker.save(steps.state())
    steps.end()


@torch.no_grad()
def held_out_loss(
    editor: Editor, objective: Objective, held_out: Sequence[Batches], worker: Worker
) -> float:
    """The mean editing loss of held-out samples, at noise and times that never change."""
    makers, count = [], 0
    for batches in held_out:
        own, size = batches.config.batch_size, batches.config.machines.micro_batch_size
        parts = (range(start, min(start + size, own)) for start in range(0, own, size))
        makers += [batches.later(0, places) for places in parts]
        count += own
    total = torch.zeros((), device=worker.device)
    for batch in ahead(makers):
        total += objective.editing(editor, batch, worker.device)
    if worker.world_size > 1:
        # All have measured the same, but for rounding: they are to come to the same decision.
        torch.distributed.all_reduce(total)
    return total.item() / worker.world_size / count


@dataclass
class Best:
    """The lowest held-out loss so far, where a recipe stops early.

    Attributes:
        loss: mean of the held-out samples; infinite before the first.
        num_since: validations after it.
        weights: the averaged ones that gave it, on the CPU and as this worker has them.
    """

    loss: float = math.inf
    num_since: int = 0
    weights: list[Tensor] | None = None

    def see(self, loss: float, weights: Sequence[Tensor]) -> None:
        """Take a validation's loss, and the weights if there is none lower."""
        self.num_since += 1
        if loss < self.loss:
            self.loss, self.num_since = loss, 0
            self.weights = [sharding.whole(weight.detach()).cpu().clone() for weight in weights]


class _Steps:
    """The steps of a stage: its optimiser, the weights' averages, what a checkpoint holds."""

    def __init__(self, stage: Stage, editor: Editor, config: EditorConfig, worker: Worker) -> None:
        state = worker.take(stage.name)
        for name, parameter in editor.named_parameters():
            parameter.requires_grad_(name in stage.trained)
        self.stage, self.editor, self.config, self.worker = stage, editor, config, worker
        if state is not None:
            editor.load_state_dict(state["editor"])
        self.wrapped = worker.wrap(editor)
        self.trained = [p for p in self.wrapped.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=stage.learning_rate, weight_decay=config.weight_decay
        )
        self.rate = get_scheduler(
            "constant_with_warmup" if config.schedule == "constant" else "cosine",
            self.optimizer,
            num_warmup_steps=min(config.num_warmup_steps, stage.num_steps // 10),
            num_training_steps=stage.num_steps,
        )
        self.average = EMAModel(self.trained, decay=config.ema_decay)
        share, micro = config.batch_size // worker.world_size, config.machines.micro_batch_size
        own = range(worker.rank * share, (worker.rank + 1) * share)
        self.shares = [own[start : start + micro] for start in range(0, share, micro)]
        self.done, self.best = 0, Best()
        if state is not None:
            optimizer = sharding.optimizer_state(state["optimizer"], self.trained)
            self.optimizer.load_state_dict(optimizer)
            self.rate.load_state_dict(state["rate"])
            averages = zip(state["average"]["shadow_params"], self.trained, strict=True)
            shadows = [sharding.sharded_as(value, parameter) for value, parameter in averages]
            self.average.load_state_dict({**state["average"], "shadow_params": shadows})
            self.average.to(worker.device)
            self.done = state["step"]
            self.best = Best(**state["best"])

    @property
    def is_over(self) -> bool:
        """Whether the held-out loss has not fallen for as long as the recipe waits."""
        patience = self.config.early_stop
        return patience is not None and self.best.num_since >= patience

    def micro_batches(self) -> Iterator[Callable[[], Batch]]:
        """Makers of this worker's part of each batch, from the next step to the last."""
        for step in range(self.done, self.stage.num_steps):
            for places in self.shares:
                yield self.stage.batches.later(step, places)

    def advance(self, upcoming: Iterator[Batch], log: MetricsLog) -> None:
        """One optimiser step, over the next of `micro_batches`."""
        worker, size = self.worker, self.config.batch_size
        values, ids = [], []
        self.wrapped.train()
        for number in range(len(self.shares)):
            batch, last = next(upcoming), number + 1 == len(self.shares)
            with contextlib.nullcontext() if last else _unsynchronised(self.wrapped):
                value = self.stage.loss(self.wrapped, batch, worker.device)
                # Gradients are averaged over the workers, and are to be those of the whole batch.
                (value * worker.world_size / size).backward()
            values.append(value.detach())
            ids.append(batch.ids)
        own = torch.stack(values)
        total = own.sum()
        if worker.world_size > 1:
            torch.distributed.all_reduce(total)
        # Once a step: to look is to wait for the device. All workers see it in the sum.
        if not torch.isfinite(total):
            bad = [names for value, names in zip(own.tolist(), ids, strict=True)
                   if not math.isfinite(value)]  # fmt: skip
            self._stop([name for names in bad for name in names])
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.step(self.trained)
        self.done += 1
        figures = {"loss": total.item() / size, "grad_norm": float(sharding.whole(norm))}
        log.write(self.stage.name, self.done, figures)

    def _stop(self, ids: list[str]) -> None:
        if self.worker.folder and ids:
            content = {"stage": self.stage.name, "step": self.done, "ids": ids}
            (self.worker.folder / NAN_BATCH).write_text(json.dumps(content, indent=2))
        raise RunError(
            f"{self.stage.name} step {self.done}: the loss is not a number; the samples of this "
            f"batch are in the output's {NAN_BATCH}; look at them, or lower the stage's "
            "learning rate and give another output; the same command would end here again",
            again=False,
        )

    def validate(self) -> None:
        """What the stage measures, of the editor with its averaged weights."""
        if self.stage.validate is None:
            return
        self.average.store(self.trained)
        self.average.copy_to(self.trained)
        self.editor.eval()
        loss = self.stage.validate(self.done)
        if self.config.early_stop is not None and loss is not None:
            self.best.see(loss, self.trained)
        self.average.restore(self.trained)

    def end(self) -> None:
        """Leave the averaged weights in the editor, or those of the lowest held-out loss."""
        if self.best.weights is None:
            self.average.copy_to(self.trained)
        else:
            for parameter, value in zip(self.trained, self.best.weights, strict=True):
                parameter.data.copy_(sharding.sharded_as(value, parameter))
        self.editor.eval()

    def state(self) -> dict[str, Any]:
        """All that going on needs, on rank 0; the data and the noise follow from the step."""
        state: dict[str, Any] = sharding.whole(
            {
                "stage": self.stage.name,
                "step": self.done,
                "editor": dict(self.editor.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "rate": self.rate.state_dict(),
                "average": self.average.state_dict(),
                "best": vars(self.best),
            },
            keep=self.worker.rank == 0,
        )
        return state


def _unsynchronised(module: nn.Module) -> contextlib.AbstractContextManager[Any]:
    no_sync: Any = getattr(module, "no_sync", contextlib.nullcontext)
    context: contextlib.AbstractContextManager[Any] = no_sync()
    return context

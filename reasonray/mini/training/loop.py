"""The one optimiser loop of the zoo: resumable, with EMA, warm-up and a linear cool-down.

It knows nothing of models or data: a loss function makes its own batch from the step number, so
that a killed run continues with the batches it would have seen.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file

from reasonray.core.writing import replaced
from reasonray.models.weights import has_bfloat16

CHECKPOINT_EVERY = 200
LOG_EVERY = 50
FURTHER_RATE = 0.6
"""Of the learning rate, for weights that are trained further."""

Loss = tuple[torch.Tensor, dict[str, float]]
"""A scalar, and figures to show."""


@dataclass(frozen=True)
class Schedule:
    """Warm-up, constant, then linearly to zero over the last part of the steps.

    Attributes:
        num_steps: optimiser steps in all.
        learning_rate: the constant part's.
        num_warmup_steps: linear warm-up.
        cooldown: the last fraction of the steps, 0..1.
        ema_decay: of the weights' moving average, which is what `fit` leaves in the module.
    """

    num_steps: int
    learning_rate: float = 1e-3
    num_warmup_steps: int = 100
    cooldown: float = 0.3
    ema_decay: float = 0.998
    weight_decay: float = 0.01

    def rate(self, step: int) -> float:
        """The learning rate's factor at a step, 0..1."""
        start = self.num_steps * (1 - self.cooldown)
        down = (self.num_steps - step) / max(1.0, self.num_steps - start)
        return max(0.0, min(1.0, (step + 1) / self.num_warmup_steps, down))


@dataclass(frozen=True)
class Course:
    """How one model of the zoo is taught, and what of it is kept.

    Attributes:
        module: everything that is trained, heads that are thrown away among it.
        loss: called with the step; its batch must follow from the step alone.
        schedule: steps and rates.
        parts: what `save` writes, by subfolder ("" is the folder itself): models, and what has no
            weights, as processors, tokenizers and schedulers.
    """

    module: torch.nn.Module
    loss: Callable[[int], Loss]
    schedule: Schedule
    parts: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def further(self, folder: Path, num_steps: int) -> "Course":
        """The course gone on with: from saved weights, with batches that they have not seen.

        Words that a vocabulary has grown by since, and heads that were not saved, start anew.

        Args:
            folder: where `save` has written the models.
            num_steps: how many more; at `FURTHER_RATE` of the schedule's learning rate.
        """
        for subfolder, parts in self.parts.items():
            tokenizers = (getattr(part, "tokenizer", None) for part in parts)
            tokenizer = next((each for each in tokenizers if each is not None), None)
            for part in parts:
                if isinstance(part, torch.nn.Module):
                    _take_over(part, folder / subfolder, tokenizer)
        schedule = replace(
            self.schedule,
            num_steps=num_steps,
            learning_rate=FURTHER_RATE * self.schedule.learning_rate,
            num_warmup_steps=min(self.schedule.num_warmup_steps, num_steps // 10),
        )
        return replace(
            self, loss=lambda step: self.loss(self.schedule.num_steps + step), schedule=schedule
        )

    def save(self, folder: Path) -> None:
        """Write the parts; the module itself becomes float16."""
        self.module.half()
        for subfolder, parts in self.parts.items():
            for part in parts:
                part.save_pretrained(folder / subfolder)
            name_as_on_the_hub(folder / subfolder / "model.safetensors")


def name_as_on_the_hub(weights: Path) -> None:
    """Give a LLaVA's vision tower the names that it has in the hub's checkpoints.

    transformers 5 leaves `vision_model.` out of what it saves and reads both; vLLM reads the hub's.

    Args:
        weights: a file of safetensors; others, or none, are left alone.
    """
    if not weights.exists():
        return
    tensors = load_file(weights)
    named = {
        re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name): tensor
        for name, tensor in tensors.items()
    }
    if named.keys() != tensors.keys():
        save_file(named, weights, {"format": "pt"})


def fit(name: str, course: Course, workdir: Path) -> None:
    """Train a course's module in place; ends with the moving average of its weights.

    Args:
        name: shown in the progress and used for the checkpoint's file.
        course: what is trained, and how.
        workdir: where `<name>.pt` is kept; an interrupted run continues from it.
    """
    module, schedule = course.module, course.schedule
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, betas=(0.9, 0.99)
    )
    average = [p.detach().clone() for p in trained]
    checkpoint = workdir / f"{name}.pt"
    workdir.mkdir(parents=True, exist_ok=True)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        average, first = state["average"], state["step"]

    module.train()
    smooth: float | None = None
    with _progress() as progress:
        bar = progress.add_task(name, total=schedule.num_steps, completed=first, figures="")
        started = time.monotonic()
        for step in range(first, schedule.num_steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * schedule.rate(step)
            value, figures = course.loss(step)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            decay = min(schedule.ema_decay, (step + 1) / (step + 10))
            torch._foreach_lerp_(average, [p.detach() for p in trained], 1 - decay)
            smooth = value.item() if smooth is None else 0.98 * smooth + 0.02 * value.item()
            numbers = {"loss": smooth, **figures}
            line = " ".join(f"{key} {number:.4f}" for key, number in numbers.items())
            progress.update(bar, advance=1, figures=line)
            if (step + 1) % LOG_EVERY == 0 and not progress.console.is_terminal:
                line += f" {(time.monotonic() - started) / (step + 1 - first):.2f} s/step"
                print(f"{name} {step + 1}/{schedule.num_steps} {line}", flush=True)
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == schedule.num_steps:
                state = {"average": average, "step": step + 1, "module": module.state_dict()}
                with replaced(checkpoint) as temporary:
                    torch.save(state | {"optimizer": optimizer.state_dict()}, temporary)
    with torch.no_grad():
        for parameter, value in zip(trained, average, strict=True):
            parameter.copy_(value)
    module.eval()


@torch.no_grad()
def _take_over(model: Any, folder: Path, tokenizer: Any) -> None:
    """Copy saved weights into a model; what has a row for each token, token by token."""
    saved = type(model).from_pretrained(folder, torch_dtype=torch.float32).state_dict()
    vocabulary, saved_vocabulary = {}, {}
    if tokenizer is not None:
        vocabulary = tokenizer.get_vocab()
        saved_vocabulary = type(tokenizer).from_pretrained(folder).get_vocab()
    common = [token for token in vocabulary if token in saved_vocabulary]
    rows = [vocabulary[token] for token in common]
    saved_rows = [saved_vocabulary[token] for token in common]
    for key, value in model.state_dict().items():
        before = saved[key]
        if value.shape[:1] == (len(vocabulary),) and before.shape[:1] == (len(saved_vocabulary),):
            value[rows] = before[saved_rows]
        else:
            value.copy_(before)


def mixed_precision() -> torch.autocast:
    """bfloat16 autocast on CPU where the processor has it, which halves a step; else a no-op."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu")))


def _progress() -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True),
        disable=not Console(stderr=True).is_terminal,
    )

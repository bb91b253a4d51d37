"""Where a training's figures and sample edits are shown: what `editor.output.loggers` names.

A resumed run does steps again, with the figures that they had: a logger is told only what it does
not have. Steps are counted over both stages.
"""

import importlib.util
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from reasonray.core.errors import UserError
from reasonray.core.place import Place
from reasonray.core.writing import write_file

PROJECT = "reasonray"
RUNS = "loggers.json"
"""The runs' ids of this training in the services that have such."""

_MLFLOW = "MLFLOW_TRACKING_URI"


class Logger(Protocol):
    """A place where the figures and the sample edits of a training are shown."""

    def last_step(self, tag: str) -> int:
        """The last step that it has of a tag, of this run or of one before it; -1 for none."""
        ...

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Show a figure of a step, counted over both stages."""
        ...

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """Show a sheet of sample edits, RGB, of a step."""
        ...

    def flush(self) -> None:
        """Put on the disk, or send, what was shown so far: a kill loses none of it."""
        ...

    def close(self) -> None:
        """End the run: the training is done."""
        ...


def check(names: Sequence[str], output: Place) -> None:
    """Whether all are installed, and can show what goes to an output.

    Raises:
        UserError: one is not, or cannot.
    """
    if "mlflow" in names and not isinstance(output, Path) and not os.environ.get(_MLFLOW):
        # Its own database notes where the pictures lie.
        raise UserError(
            f"editor.output.loggers: mlflow keeps a database in the output, which {output} cannot "
            f"hold: set {_MLFLOW} to a server's address, or leave it out"
        )
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"editor.output.loggers: {name} is not installed: pip install {name}, or leave it "
                "out"
            )


def build(names: Sequence[str], folder: Path, settings: dict[str, Any]) -> list[Logger]:
    """The loggers of a training, new or resumed.

    Args:
        names: from the recipe.
        folder: the training's output.
        settings: shown beside the run, where there is a place for them.

    Raises:
        UserError: one is not installed, or refuses.
    """
    check(names, folder)
    kinds: dict[str, Callable[[Path, dict[str, Any]], Logger]]
    kinds = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
    return [kinds[name](folder, settings) for name in names]


class TensorBoard:
    """Event files in `tensorboard/`."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from torch.utils.tensorboard import SummaryWriter

        place = str(folder / "tensorboard")
        self.writer: Any = SummaryWriter(place)
        known: Any = EventAccumulator(place, size_guidance={"scalars": 1, "images": 1})
        known.Reload()
        tags = known.Tags()
        self.last = {tag: known.Scalars(tag)[-1].step for tag in tags["scalars"]}
        self.last.update({tag: known.Images(tag)[-1].step for tag in tags["images"]})

    def last_step(self, tag: str) -> int:
        return int(self.last.get(tag, -1))

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.writer.add_scalar(tag, value, step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        self.writer.add_image(tag, np.asarray(image), step, dataformats="HWC")

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases; its own variables say where (`WANDB_MODE`, `WANDB_API_KEY`).

    Resumed offline, where W&B knows no steps, it becomes a second part with the same id.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        import wandb

        self.wandb: Any = wandb
        run_id = _run_id(folder, "wandb") or _keep(folder, "wandb", uuid.uuid4().hex[:8])
        try:
            self.run: Any = self.wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=folder.name,
                id=run_id,
                resume="allow",
                dir=str(folder),
                config=settings,
            )
        except self.wandb.errors.Error as error:
            raise UserError(
                f"editor.output.loggers: wandb: {' '.join(str(error).split())}"
            ) from error

    def last_step(self, tag: str) -> int:
        return int(self.run.starting_step) - 1

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.run.log({tag: value}, step=step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        self.run.log({tag: self.wandb.Image(image)}, step=step)

    def flush(self) -> None:
        pass  # its own process writes all the time

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """A run of MLflow, where `MLFLOW_TRACKING_URI` says, else in `mlflow.db` and `mlartifacts/`."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        import mlflow

        # Not MLflow's own default, the working directory: that is a passing one of Ray's.
        where = os.environ.get(_MLFLOW)
        self.client: Any = mlflow.MlflowClient(where or f"sqlite:///{folder / 'mlflow.db'}")
        self.run_id = _run_id(folder, "mlflow")
        if self.run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            known = self.client.get_experiment_by_name(name)
            artifacts = None if where else (folder / "mlartifacts").as_uri()
            experiment = known.experiment_id if known else self.client.create_experiment(
                name, artifacts
            )  # fmt: skip
            run = self.client.create_run(experiment, run_name=folder.name)
            self.run_id = _keep(folder, "mlflow", run.info.run_id)
            for key, value in _leaves(settings):
                self.client.log_param(self.run_id, key, value)
        self.last: dict[str, int] = {}

    def last_step(self, tag: str) -> int:
        if tag not in self.last:
            history = self.client.get_metric_history(self.run_id, tag)
            self.last[tag] = max((each.step for each in history), default=-1)
        return self.last[tag]

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.client.log_metric(self.run_id, tag, value, step=step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        # An artifact of the step's name: one that is drawn again replaces it.
        self.client.log_image(self.run_id, image, artifact_file=f"{tag}/step-{step:06d}.png")

    def flush(self) -> None:
        pass  # each call has written

    def close(self) -> None:
        self.client.set_terminated(self.run_id)


def _leaves(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys, as `--set` takes them, and values."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _run_id(folder: Path, name: str) -> str | None:
    path = folder / RUNS
    ids: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return ids.get(name)


def _keep(folder: Path, name: str, run_id: str) -> str:
    path = folder / RUNS
    ids = json.loads(path.read_text()) if path.exists() else {}
    write_file(path, json.dumps({**ids, name: run_id}))
    return run_id

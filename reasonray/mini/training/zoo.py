"""The zoo's models, each by its own module of `training`, into the package."""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from reasonray.core.errors import UserError
from reasonray.mini import ZOO
from reasonray.sources.mini.world import require_packages

MODELS = (
    "vae",
    "painter",
    "detector",
    "captioner",
    "classifier",
    "language_model",
    "mllm",
    "judge",
    "instructpix2pix",
    "clip",
    "dino",
)
"""In the order they are trained in: the painter needs the VAE, and holds it; instructpix2pix works
on its latents; the judge goes on from the mllm, and sees what the painter's VAE makes."""

FURTHER = ("detector", "captioner", "classifier")
"""Models of one part, trained from the scenes alone."""


def train_zoo(
    models: Sequence[str], workdir: Path, zoo: Path = ZOO, *, further: int | None = None
) -> Iterator[Path]:
    """Train models one after the other, or go on with those that were interrupted.

    Args:
        models: some of `MODELS`; none: all.
        further: so many steps beyond the weights that the zoo has; None: from nothing.
        workdir: checkpoints, the tokenizers that belong to them, a cache of latents.
        zoo: gets a folder for each model; the VAE goes into the painter's.

    Yields:
        The folder of each model that is done.

    Raises:
        UserError: no such model, no packages to draw with, or a model is asked for before the one
            that it is built on.
    """
    for name in models:
        if name not in MODELS:
            raise UserError(f"mini train {name}: not one of {', '.join(MODELS)}")
    require_packages()
    for name in MODELS:
        if name in (models or MODELS):
            yield train(name, workdir, zoo, further=further)


def train(name: str, workdir: Path, zoo: Path, *, further: int | None = None) -> Path:
    """Train one of `MODELS`, or go on with it; its module has `course(workdir, zoo)`.

    Args:
        name: of the model and of its module.
        workdir: checkpoints, the tokenizers that belong to them, a cache of latents.
        zoo: gets the model's folder, which is returned; the VAE's stays in `workdir`.
        further: so many steps beyond the weights that the zoo has; None: from nothing.

    Raises:
        UserError: a model that this one is built on is not there yet, or one of several parts is
            to be trained further.
    """
    # Here, because it takes seconds: a wrong name is said before.
    import torch

    from reasonray.mini.training.loop import Course, fit

    module = importlib.import_module(f"reasonray.mini.training.{name}")
    if further is not None and name not in FURTHER:
        raise UserError(f"mini train {name} --further: only {', '.join(FURTHER)}")
    if name == "vae":
        module.train(workdir)
        return workdir / "vae"
    torch.manual_seed(0)
    course: Course = module.course(workdir, zoo)
    if further is None:
        fit(name, course, workdir)
    else:
        fit(f"{name}-further", course.further(zoo / name, further), workdir)
    course.save(zoo / name)
    return zoo / name

"""The zoo's models, each by its own module of `training`, into the package."""

from collections.abc import Callable, Iterator, Sequence
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
    "instructpix2pix",
    "clip",
    "dino",
)
"""In the order they are trained in: the painter needs the VAE, and holds it; instructpix2pix works
on its latents."""


def train_zoo(models: Sequence[str], workdir: Path, zoo: Path = ZOO) -> Iterator[Path]:
    """Train models one after the other, or go on with those that were interrupted.

    Args:
        models: some of `MODELS`; none: all.
        workdir: checkpoints, a cache of latents.
        zoo: gets a folder for each model; the VAE goes into the painter's.

    Yields:
        The folder of each model that is done.

    Raises:
        UserError: no such model, no packages to draw with, or the painter is asked for before the
            VAE.
    """
    for name in models:
        if name not in MODELS:
            raise UserError(f"mini train {name}: not one of {', '.join(MODELS)}")
    require_packages()
    for name in MODELS:
        if name in (models or MODELS):
            yield _trainer(name)(workdir, zoo / name)


def _trainer(name: str) -> Callable[[Path, Path], Path]:
    # Here, because they import torch.
    from reasonray.mini.training import (
        captioner,
        classifier,
        clip,
        detector,
        dino,
        instructpix2pix,
        language_model,
        mllm,
        painter,
        vae,
    )

    def train_vae(workdir: Path, folder: Path) -> Path:
        vae.train(workdir)
        return workdir / "vae"

    def train_painter(workdir: Path, folder: Path) -> Path:
        if not (workdir / "vae").exists():
            raise UserError(f"mini train painter: no VAE in {workdir}; train vae first")
        return painter.train(workdir, folder)

    def train_instructpix2pix(workdir: Path, folder: Path) -> Path:
        if not (folder.parent / "painter" / "vae").exists():
            raise UserError(
                "mini train instructpix2pix: no painter, whose VAE is used; train it first"
            )
        return instructpix2pix.train(workdir, folder)

    def train_language_model(workdir: Path, folder: Path) -> Path:
        language_model.save(language_model.train(workdir), workdir, folder)
        return folder

    return {
        "vae": train_vae,
        "painter": train_painter,
        "detector": detector.train,
        "captioner": captioner.train,
        "classifier": classifier.train,
        "language_model": train_language_model,
        "mllm": mllm.train,
        "instructpix2pix": train_instructpix2pix,
        "clip": clip.train,
        "dino": dino.train,
    }[name]

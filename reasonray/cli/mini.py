"""The commands of the mini world: draw it, train and measure its models."""

from pathlib import Path

import click

from reasonray.cli import options
from reasonray.core.errors import UserError


@click.group(epilog="Try it: reasonray mini world --format v3det --count 20 --output out/world")
def mini() -> None:
    """The mini world and the tiny models that live in it."""


@mini.command(epilog="Try it: reasonray mini world --format v3det --count 20 --output out/world")
@click.option("--format", "kind", type=click.Choice(["v3det", "instructpix2pix"]), required=True)
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1_000_000,
    show_default=True,
    help="Of the first scene; the tiny models have seen those below a million.",
)
@click.option(
    "--scenery",
    type=click.Choice(["plain", "shapes", "real"]),
    default="plain",
    show_default=True,
    help="plain: 96x96; shapes: of 1:3 to 3:1, with small and cut objects; real: also several and "
    "held ones, captions with counts, names and adjectives.",
)
@click.option(
    "--megapixels",
    type=click.FloatRange(min=0.02, max=50),
    metavar="MAX",
    help="Of the largest pictures; by default 1. Not for plain ones.",
)
@options.folder("--output", "New or empty folder.", required=True)
def world(
    kind: str, count: int, seed: int, scenery: str, megapixels: float | None, output: str
) -> None:
    """Draw scenes of the mini world, in the files of a real dataset."""
    from reasonray.core.place import place
    from reasonray.sources.mini.formats import write_instructpix2pix, write_v3det
    from reasonray.sources.mini.scenery import named
    from reasonray.sources.mini.world import require_packages

    try:
        scenes = named(scenery, megapixels)
    except UserError as error:
        raise UserError(f"--megapixels {megapixels:g}: {error}") from error

    require_packages()
    folder = place(output, "--output")
    if not isinstance(folder, Path):
        raise UserError(f"--output {output}: expected a folder of this machine")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"--output {output}: is there already; give a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be made ({error.strerror})") from error
    writers = {"v3det": write_v3det, "instructpix2pix": write_instructpix2pix}
    writers[kind](folder, count, seed, scenes)
    click.echo(output)


@mini.command(
    "benchmark", epilog="Try it: reasonray mini benchmark --count 50 --output out/benchmark"
)
@click.option(
    "--count", type=click.IntRange(min=1), default=200, show_default=True, help="Of each kind."
)
@options.folder("--output", "New or empty folder, or a URI of a store.", required=True)
def make_benchmark(count: int, output: str) -> None:
    """Draw held-out scenes before and after edits, for evaluate.

    Kinds of instructions: direct, reasoning, relational ("it" is another object in each picture)
    and unheard, relational ones with sentences that the tiny models never heard of the object.
    """
    from reasonray.core.place import names, place, reached
    from reasonray.mini.benchmark import write_benchmark
    from reasonray.sources.mini.world import require_packages

    require_packages()
    folder = place(output, "--output")
    with reached(folder, "--output"):
        if names(folder):
            raise UserError(f"--output {output}: is there already; give a new or empty folder")
        click.echo(f"{output}: {write_benchmark(folder, count)} pairs")


@mini.command(epilog="Try it: reasonray mini train detector")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--workdir",
    default=".train",
    show_default=True,
    metavar="DIR",
    help="Checkpoints; an interrupted training continues from them.",
)
@click.option(
    "--further",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="Train the package's weights so many steps more, rather than from nothing.",
)
def train(models: tuple[str, ...], workdir: str, further: int | None) -> None:
    """Train the tiny models (all, or those named) into the package; hours on two cores.

    MODEL: vae, painter, detector, captioner, classifier, language_model, mllm, judge,
    instructpix2pix, clip or dino.
    """
    from reasonray.mini.training.zoo import train_zoo

    for folder in train_zoo(models, Path(workdir), further=further):
        click.echo(folder)


@mini.command(epilog="Try it: reasonray mini editor --output out/mini-editor")
@options.folder("--output", "New folder.", required=True)
@click.option(
    "--keep",
    metavar="EDITOR",
    help="First put this editor of `reasonray train mini` into the package, in place of its own.",
)
def editor(output: str, keep: str | None) -> None:
    """Write the package's tiny editor as a folder, to be served or loaded like any other."""
    from reasonray.core.place import place
    from reasonray.mini import editor as tiny

    if keep is not None:
        tiny.keep(Path(keep))
    tiny.write(place(output, "--output"))
    click.echo(output)


@mini.command(epilog="Try it: reasonray mini evaluate --only detector")
@click.option("--only", multiple=True, metavar="GROUP", help="Only this group. Repeatable.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Held-out scenes of each group.",
)
def evaluate(only: tuple[str, ...], count: int) -> None:
    """Measure the tiny models on scenes they have never seen, through the real stages."""
    from rich.console import Console
    from rich.table import Table

    from reasonray.mini.evaluation.zoo import evaluate as measure

    table = Table("figure", box=None, pad_edge=False)
    for title in ("value", "target", "cases", ""):
        table.add_column(title, justify="right")
    for line in measure(list(only) or None, count):
        sign = "≥" if line.higher_is_better else "≤"
        target = f"{sign} {line.target:.3g}" if line.target is not None else ""
        mark = "" if line.target is None else "reached" if line.reached else "missed"
        table.add_row(line.name, f"{line.value:.4g}", target, str(line.count), mark)
    Console().print(table)

"""The commands around a dataset: generate, report, export, recipe."""

from functools import partial
from typing import Any

import click

from reasonray.cli import options


@click.command(
    short_help="Make a dataset.", epilog="Try it: reasonray generate mini --output out/demo"
)
@click.argument("recipe")
@options.folder(
    "--output",
    "New or empty folder for the dataset, or s3://, gs://, az://BUCKET/FOLDER; an unfinished run "
    "in it is continued.",
    required=True,
)
@options.sources(
    "Inputs, instead of the recipe's. FORMAT: instructpix2pix, instructpix2pix-parquet, "
    "v3det, folder or mini. Repeatable."
)
@options.parts("Make only these parts.")
@click.option(
    "--limit",
    type=int,
    metavar="N",
    help="At most so many inputs in all, drawn by the recipe's seed, of each source its share.",
)
@click.option(
    "--accepted",
    type=int,
    metavar="N",
    help="Stop when so many samples are made, taking the inputs in the order of --limit's samples.",
)
@options.settings("Change one key of the recipe, e.g. stages.paint.guidance_scale=5. Repeatable.")
@click.option(
    "--yes", is_flag=True, help="Do not ask on the terminal before a language model is paid."
)
def generate(
    recipe: str,
    output: str,
    sources: tuple[str, ...],
    parts: list[str] | None,
    limit: int | None,
    accepted: int | None,
    settings: tuple[str, ...],
    yes: bool,
) -> None:
    """Make a dataset as RECIPE says: a shipped one (mini, paper, current) or a YAML file."""
    from reasonray import generate as run
    from reasonray.cli.spending import approve

    ask = partial(approve, may_ask=not yes)
    manifest = run(recipe, output, sources, parts, limit, settings, ask, accepted)
    click.echo(
        f"{manifest.accepted} of {manifest.inputs} inputs became samples, "
        f"{manifest.rejected} were rejected"
    )
    for warning in manifest.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"{output.rstrip('/')}/report.html")


@click.command(
    short_help="Write a page about a dataset or a run.", epilog="Try it: reasonray report out/demo"
)
@options.dataset()
def report(folder: str) -> None:
    """Write DIR/report.html, one page to look at; also while the run is going."""
    from reasonray.generation.report import write_report

    click.echo(write_report(folder))


@click.command(
    short_help="Write a dataset in the files of other trainers.",
    epilog="Try it: reasonray export out/demo --format diffusers --output out/diffusers",
)
@options.dataset()
@click.option(
    "--format",
    "kind",
    required=True,
    metavar="FORMAT",
    help="instructpix2pix: the original's folders, for its edit_dataset.py; diffusers: Parquet for "
    "train_instruct_pix2pix.py; magicbrush: Parquet with MagicBrush's columns, masks included.",
)
@options.folder("--output", "New or empty folder.", required=True)
@click.option(
    "--instruction",
    default="reasoning",
    show_default=True,
    metavar="KIND",
    help="What the trainer reads: reasoning, direct, or both, which makes two rows of a sample.",
)
@click.option(
    "--whole",
    is_flag=True,
    help="Keep the pictures' shapes; by default instructpix2pix and diffusers, whose trainers make "
    "squares of them, get squares that keep the edit.",
)
@options.parts("Only samples of these parts.")
def export(
    folder: str, kind: str, output: str, instruction: str, whole: bool, parts: list[str] | None
) -> None:
    """Write the accepted samples of DIR, made by generate, as others' trainers read them."""
    from reasonray import export as write

    words: dict[str, Any] = {
        "format": kind, "instruction": instruction, "parts": parts, "whole": whole,
    }  # fmt: skip
    num_rows = write(folder, output=output, **words)
    click.echo(f"{num_rows} rows\n{output}")


@click.group(epilog="Try it: reasonray recipe show mini")
def recipe() -> None:
    """What a run does: mini, paper, current, or a file of your own."""


@recipe.command(epilog="Try it: reasonray recipe show paper > mine.yaml")
@click.argument("recipe")
@options.settings("Change one key first. Repeatable.")
def show(recipe: str, settings: tuple[str, ...]) -> None:
    """Print RECIPE whole, with every default, each key explained; a start for your own."""
    from reasonray.core.commented import commented
    from reasonray.core.recipe import load

    click.echo(commented(load(recipe, settings)), nl=False)

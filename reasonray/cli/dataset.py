"""The commands around a dataset: generate, report, export, recipe."""

import json
from pathlib import Path
from typing import Any

import click

from reasonray.core.errors import UserError


@click.command(
    short_help="Make a dataset.", epilog="Try it: reasonray generate mini --output out/demo"
)
@click.argument("recipe")
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    help="New or empty folder for the dataset; an unfinished run in it is continued.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="FORMAT=PATH",
    help="Inputs, instead of the recipe's. FORMAT: instructpix2pix, instructpix2pix-parquet, "
    "v3det, folder or mini. Repeatable.",
)
@click.option("--parts", metavar="I,II,III", help="Make only these parts.")
@click.option(
    "--limit", type=int, metavar="N", help="At most so many inputs of each source for each part."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the recipe, e.g. stages.paint.guidance_scale=5. Repeatable.",
)
def generate(
    recipe: str,
    output: str,
    sources: tuple[str, ...],
    parts: str | None,
    limit: int | None,
    settings: tuple[str, ...],
) -> None:
    """Make a dataset as RECIPE says: a shipped one (mini, paper, current) or a YAML file."""
    from reasonray import generate as run
    from reasonray.core.recipe import load

    overrides = list(settings)
    if parts is not None:
        overrides.append("parts=" + json.dumps([part.strip() for part in parts.split(",")]))
    if limit is not None:
        overrides.append(f"limit={limit}")
    if sources:
        # First, so that --set sources.0.split=val reaches into them.
        overrides.insert(0, "sources=" + json.dumps([_source(text) for text in sources]))
    manifest = run(load(recipe, overrides), output=output)
    click.echo(
        f"{manifest.accepted} of {manifest.inputs} inputs became samples, "
        f"{manifest.rejected} were rejected\n{Path(output) / 'report.html'}"
    )


@click.command(
    short_help="Write a page about a dataset or a run.", epilog="Try it: reasonray report out/demo"
)
@click.argument("folder", metavar="DIR")
def report(folder: str) -> None:
    """Write DIR/report.html, one page to look at; also while the run is going."""
    from reasonray.generation.report import write_report

    click.echo(write_report(folder))


@click.command(
    short_help="Write a dataset in the files of other trainers.",
    epilog="Try it: reasonray export out/demo --format diffusers --output out/diffusers",
)
@click.argument("folder", metavar="DIR")
@click.option(
    "--format",
    "kind",
    required=True,
    metavar="FORMAT",
    help="instructpix2pix: the original's folders, for its edit_dataset.py; diffusers: Parquet for "
    "train_instruct_pix2pix.py; magicbrush: Parquet with MagicBrush's columns, masks included.",
)
@click.option("--output", required=True, metavar="DIR", help="New or empty folder.")
@click.option(
    "--instruction",
    default="reasoning",
    show_default=True,
    metavar="KIND",
    help="What the trainer reads: reasoning, direct, or both, which makes two rows of a sample.",
)
@click.option("--parts", metavar="I,II,III", help="Only samples of these parts.")
def export(folder: str, kind: str, output: str, instruction: str, parts: str | None) -> None:
    """Write the accepted samples of DIR, made by generate, as others' trainers read them."""
    from reasonray import export as write

    words: dict[str, Any] = {"format": kind, "instruction": instruction}
    if parts is not None:
        words["parts"] = [part.strip() for part in parts.split(",")]
    num_rows = write(folder, output=output, **words)
    click.echo(f"{num_rows} rows\n{output}")


@click.group(epilog="Try it: reasonray recipe show mini")
def recipe() -> None:
    """What a run does: mini, paper, current, or a file of your own."""


@recipe.command(epilog="Try it: reasonray recipe show paper > mine.yaml")
@click.argument("recipe")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key first. Repeatable.",
)
def show(recipe: str, settings: tuple[str, ...]) -> None:
    """Print RECIPE whole, with every default, each key explained; a start for your own."""
    from reasonray.core.commented import commented
    from reasonray.core.recipe import load

    click.echo(commented(load(recipe, settings)), nl=False)


def _source(text: str) -> dict[str, str]:
    kind, separator, path = text.partition("=")
    if not (separator and kind and path):
        raise UserError(f"--source {text}: expected FORMAT=PATH, e.g. v3det=/data/V3Det")
    return {"format": kind, "path": path}

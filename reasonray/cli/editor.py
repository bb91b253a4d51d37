"""The commands around an editor: features, train."""

import click

from reasonray.cli import options


@click.command(
    "features",
    short_help="Compute what trainings read of the frozen models.",
    epilog="Try it: reasonray features paper --data out/paper --output out/features",
)
@click.argument("recipe")
@options.folder(
    "--data", "A dataset that generate has made, or its s3://, gs://, az:// URI.", required=True
)
@options.folder(
    "--output",
    "Folder or URI that trainings are given as --features; may hold others'.",
    required=True,
)
@options.parts("Only samples of these parts.")
@options.settings("Change one key of the recipe, e.g. editor.image_size=512. Repeatable.")
def compute_features(
    recipe: str, data: str, output: str, parts: list[str] | None, settings: tuple[str, ...]
) -> None:
    """Compute what the frozen models of RECIPE's section `editor` give, which train does first."""
    from reasonray.editor import job

    click.echo(job.compute_features(recipe, data, output, parts, settings))


@click.command(
    "train",
    short_help="Train an editor on a dataset.",
    epilog="Try it: reasonray train paper --data out/paper --output out/editor",
)
@click.argument("recipe")
@options.folder(
    "--data", "A dataset that generate has made, or its s3://, gs://, az:// URI.", required=True
)
@options.folder(
    "--output",
    "New or empty folder for the editor, or s3://, gs://, az://BUCKET/FOLDER; an unfinished "
    "training in it is continued.",
    required=True,
)
@options.parts("Only samples of these parts.")
@options.folder(
    "--features",
    "Folder or URI for what the frozen models give, which trainings share; by default in --output.",
)
@options.settings("Change one key of the recipe, e.g. editor.num_steps=2000. Repeatable.")
def train_editor(
    recipe: str,
    data: str,
    output: str,
    parts: list[str] | None,
    features: str | None,
    settings: tuple[str, ...],
) -> None:
    """Fine-tune the editor of RECIPE's section `editor` on the accepted samples of a dataset."""
    from reasonray import train as run

    click.echo(run(recipe, data, output, parts, settings, features))

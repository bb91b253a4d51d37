"""The commands around an editor: train."""

import click


@click.command(
    "train",
    short_help="Train an editor on a dataset.",
    epilog="Try it: reasonray train paper --data out/paper --output out/editor",
)
@click.argument("recipe")
@click.option("--data", required=True, metavar="DIR", help="A dataset that generate has made.")
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    help="New or empty folder for the editor; an unfinished training in it is continued.",
)
@click.option("--parts", metavar="I,II,III", help="Only samples of these parts.")
@click.option(
    "--features",
    metavar="DIR",
    help="Folder for what the frozen models give, which trainings share; by default in --output.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the recipe, e.g. editor.num_steps=2000. Repeatable.",
)
def train_editor(
    recipe: str,
    data: str,
    output: str,
    parts: str | None,
    features: str | None,
    settings: tuple[str, ...],
) -> None:
    """Fine-tune the editor of RECIPE's section `editor` on the accepted samples of a dataset."""
    from reasonray import train as run

    chosen = None if parts is None else [part.strip() for part in parts.split(",")]
    click.echo(run(recipe, data, output, chosen, settings, features))

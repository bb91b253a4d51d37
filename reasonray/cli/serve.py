"""The commands around a service: serve, keys."""

import re
from pathlib import Path

import click

from reasonray.core.extras import explained


def _named(text: str) -> tuple[str, str]:
    """`NAME=EDITOR`."""
    name, equals, editor = text.partition("=")
    if not equals or not name or not editor:
        raise click.BadParameter(f"{text}: expected NAME=EDITOR", param_hint="--model")
    return name, editor


def _resolved(editor: str) -> str:
    from reasonray.core.place import place

    where = place(editor, "editor")
    return str(where.resolve() if isinstance(where, Path) else where)


@click.command(
    "serve",
    short_help="Serve an editor: a page and OpenAI's API.",
    epilog="Try it: reasonray serve out/editor/editor",
)
@click.argument("editor", required=False)
@click.option("--host", default="127.0.0.1", help="Address to listen at; others need --keys.")
@click.option("--port", default=8000, type=click.IntRange(1, 65535), help="Port to listen at.")
@click.option("--keys", metavar="FILE", help="Serve only who has a key; `reasonray keys` makes it.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME=EDITOR", help="One more editor. Repeatable."
)
@click.option(
    "--side",
    type=click.IntRange(32),
    help="Edit with a shorter side of so many pixels; by default of the editor's training.",
)
@click.option(
    "--max-batch", default=4, type=click.IntRange(1), help="Edits that share a step of the model."
)
@click.option(
    "--replicas", "max_replicas", default=1, type=click.IntRange(1), help="Processes, at most."
)
@click.option("--deadline", default=60.0, type=click.FloatRange(1), help="Seconds of a request.")
@click.option(
    "--c2pa", metavar="FILE", help="Sign pictures with this certificate, its chain and key (PEM)."
)
@click.option(
    "--no-mark",
    is_flag=True,
    help="Leave out of the pictures' metadata that a model made them.",
)
def serve_editor(
    editor: str | None,
    host: str,
    port: int,
    keys: str | None,
    models: tuple[str, ...],
    deadline: float,
    c2pa: str | None,
    no_mark: bool,
    **each: int | None,
) -> None:
    """Serve the EDITOR that train has made, in a browser and behind OpenAI's API, until Ctrl-C."""
    named = [_named(text) for text in models]
    if editor is not None:
        name = re.sub(r"[^\w.-]", "-", _resolved(editor).rpartition("/")[2]) or "editor"
        named.insert(0, (name, editor))
    if not named:
        raise click.UsageError("Which editor? Give its folder, or --model NAME=EDITOR.")
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        raise click.UsageError(f"Two models have one name: {', '.join(names)}.")
    from pydantic import ValidationError

    from reasonray.core.errors import UserError
    from reasonray.serving.config import ServingConfig

    try:
        config = ServingConfig.model_validate(
            {
                "models": {name: {"editor": _resolved(folder), **each} for name, folder in named},
                "keys": None if keys is None else str(Path(keys).resolve()),
                "anonymous": keys is None,
                "deadline_s": deadline,
                "mark": not no_mark,
                "c2pa": None if c2pa is None else str(Path(c2pa).resolve()),
            }
        )
    except ValidationError as error:
        [first, *_] = error.errors()
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {first['msg']}") from error
    if no_mark:
        click.echo(
            "--no-mark: nothing in a picture says that a model changed it (IPTC "
            "DigitalSourceType); Art. 50(2) of the EU's AI Act asks services for such a mark",
            err=True,
        )
    if c2pa is not None:
        from reasonray.serving.credentials import Credentials

        Credentials(Path(c2pa))
    if keys is not None:
        from reasonray.serving.keys import read_keys

        read_keys(Path(keys))
    with explained("serve"):
        from reasonray.serving.running import run

    run(config, host, port)


@click.command(
    "keys",
    short_help="Make a key for a service.",
    epilog="Try it: reasonray keys keys.txt --name anna",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", required=True, help="Whose key it is: letters, digits and . _ - @")
def make_key(file: Path, name: str) -> None:
    """Make a key and print it; FILE, which serve --keys reads, gets only its hash."""
    from reasonray.serving.keys import new_key

    key = new_key(file, name)
    click.echo("shown this once; send it as `Authorization: Bearer KEY`:", err=True)
    click.echo(key)

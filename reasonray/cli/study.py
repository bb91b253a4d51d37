"""The commands of a user study: study create, study serve, study report."""

from pathlib import Path

import click

from reasonray.core.errors import UserError
from reasonray.core.extras import explained


@click.group(
    short_help="Ask people which editor's picture is best.",
    epilog="Try it: reasonray study report out/study",
)
def study() -> None:
    """People say which of several editors' pictures carries an instruction out best."""


@study.command(
    short_help="Lay a study out in a folder.",
    epilog="Try it: reasonray study create out/s --items in --editor a=a --editor b=b",
)
@click.argument("folder", metavar="DIR")
@click.option(
    "--items",
    required=True,
    metavar="PATH",
    help="What the editors were asked: a folder that benchmark has made; or a .jsonl or .parquet "
    "file, or a folder of such, with id, instruction, kind (direct, reasoning, …), input_image "
    "and, if you like, group.",
)
@click.option(
    "--editor",
    "editors",
    required=True,
    multiple=True,
    metavar="NAME=DIR",
    help="An editor's pictures: evaluate's edits/BENCHMARK/EDITOR, or files named by their "
    "items' ids, with __ for /, and .png, .jpg or .webp. Two or more.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Items of each kind, drawn from those that all editors have a picture for, if there are "
    "so many.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=5, show_default=True, help="Who are asked."
)
@click.option(
    "--quota",
    type=click.IntRange(min=1),
    metavar="N",
    help="Items of each kind for each worker; by default each item goes to one worker. With more, "
    "several see the same, and the report says how far they agree.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of what is drawn, who gets it and what stands where.",
)
def create(
    folder: str,
    items: str,
    editors: tuple[str, ...],
    count: int,
    workers: int,
    quota: int | None,
    seed: int,
) -> None:
    """Draw items, and copy their pictures into DIR so that nothing in them tells the editor.

    DIR is a new or empty folder of this machine. All pictures of an item get the size of its
    input, 1024 pixels at most.
    """
    from reasonray.evaluation.study.creation import create as lay_out

    named = [_named(text) for text in editors]
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        raise UserError(f"--editor: two have one name: {', '.join(names)}")
    for line in lay_out(
        _folder(folder),
        items,
        dict(named),
        count=count,
        num_workers=workers,
        quota=quota,
        seed=seed,
    ):
        click.echo(line)
    click.echo(f"reasonray study serve {folder}")


@study.command(
    short_help="Ask the workers.",
    epilog="Try it: reasonray study serve out/study --host 0.0.0.0 --port 8080",
)
@click.argument("folder", metavar="DIR")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen at; 0 takes a free one.",
)
@click.option(
    "--url", metavar="URL", help="What the links begin with, if not host and port: a proxy's https."
)
def serve(folder: str, host: str, port: int, url: str | None) -> None:
    """Print a link for each worker, and serve the study in DIR until Ctrl-C.

    Each answer is on the disk before the worker sees the next question. Killed, the same command
    goes on.
    """
    with explained("study"):
        from reasonray.evaluation.study.running import run

    run(_folder(folder), host, port, url)


@study.command(
    short_help="Count the answers.",
    epilog="Try it: reasonray study report out/study --preferences out/pairs.parquet",
)
@click.argument("folder", metavar="DIR")
@click.option(
    "--preferences",
    metavar="FILE",
    help="Also write the answers as pairs of a chosen and a rejected picture: .parquet or .jsonl.",
)
def report(folder: str, preferences: str | None) -> None:
    """Print how often each editor was the best; also while the study is going on.

    The same is in DIR as report.md, report.tex and report.json.
    """
    from reasonray.evaluation.study.preferences import write_preferences
    from reasonray.evaluation.study.report import write_report

    click.echo(write_report(_folder(folder)), nl=False)
    if preferences is not None:
        path = Path(preferences).expanduser().absolute()
        num_pairs, num_alike = write_preferences(_folder(folder), path)
        click.echo(f"\n{num_pairs} pairs in {preferences}")
        if num_alike:
            click.echo(f"{num_alike} pairs of the very same picture are left out")


def _named(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not equals or not name.strip() or not folder:
        raise click.BadParameter(f"{text}: expected NAME=DIR", param_hint="--editor")
    return name, folder


def _folder(text: str) -> Path:
    from reasonray.core.writing import absolute

    return absolute(text, "study")

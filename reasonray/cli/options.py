"""The options that several commands have: each is declared once here, and read once here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reasonray.core.uris import is_local

_Command = TypeVar("_Command", bound=Callable[..., Any])


def folder(flag: str, help: str, *, required: bool = False) -> Callable[[_Command], _Command]:
    """An option that names a folder, as it was written.

    In a job of Ray (the context's `obj` is true) only an absolute one or a URI is taken: the job
    runs in a copy of the working directory that goes when it ends.
    """
    return click.option(flag, required=required, metavar="DIR", callback=_folder, help=help)


def dataset() -> Callable[[_Command], _Command]:
    """The argument DIR, a folder that generate has made; the command's parameter is `folder`."""
    return click.argument("folder", metavar="DIR", callback=_folder)


def parts(help: str) -> Callable[[_Command], _Command]:
    """`--parts`, a list of strings; what no part is called is refused where they are used."""
    return click.option("--parts", metavar="I,II,III", callback=_parts, help=help)


def settings(help: str) -> Callable[[_Command], _Command]:
    """`--set`, repeatable: the `overrides` of `core.recipe.load`."""
    return click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=help)


def sources(help: str) -> Callable[[_Command], _Command]:
    """`--source`, repeatable: the `sources` of `core.recipe.load`."""
    return click.option("--source", "sources", multiple=True, metavar="FORMAT=PATH", help=help)


def named_folders(flag: str, help: str, metavar: str) -> Callable[[_Command], _Command]:
    """A repeatable option with `NAME=` before what may be a folder: as `folder`, where it is one.

    Args:
        flag: followed by the parameter's name.
        help: of the option.
        metavar: its form.
    """
    flags = flag.split()
    return click.option(
        *flags, multiple=True, required=True, metavar=metavar, callback=_named_folders, help=help
    )


def _folder(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    if path is not None and context.obj and is_local(path) and not Path(path).is_absolute():
        raise click.BadParameter(
            f"{path}: give an absolute path on storage that all nodes mount, or a URI of a store"
        )
    return path


def _named_folders(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    for text in texts:
        # Also behind a kind of editor, such as `pictures:`; what is no folder here is no path.
        path = text.partition("=")[2] or text
        for each in (path, path.rpartition(":")[2]):
            if Path(each).exists():
                _folder(context, parameter, each)
    return texts


def _parts(_context: click.Context, _: click.Parameter, text: str | None) -> Any:
    return None if text is None else [part.strip() for part in text.split(",")]

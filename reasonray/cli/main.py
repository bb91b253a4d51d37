"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from reasonray.cli import costs, dataset, editor, mini
from reasonray.core.errors import RunError, UserError
from reasonray.core.version import __version__

AGAIN = "the same command continues it"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it: reasonray generate mini --output out/demo",
)
@click.version_option(__version__, message="reasonray %(version)s")
def cli() -> None:
    """Expand image-editing datasets with reasoning instructions, on a laptop or a Ray cluster."""


for command in (
    *(dataset.generate, dataset.report, dataset.export, editor.train_editor, costs.plan_recipe),
    *(dataset.recipe, mini.mini),
):
    cli.add_command(command)


def main() -> None:
    """The `reasonray` command."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code: 0 done, 1 failed, 2 the user's mistake.

    An exception that is not one of ours is a bug of ours and passes through, with its traceback.
    """
    try:
        code = cli.main(list(arguments), prog_name="reasonray", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        hint = f" (see {command} --help)" if command else ""
        return _fail(f"{error.format_message()}{hint}", 2)
    except UserError as error:
        return _fail(str(error), 2)
    except RunError as error:
        hint = "" if "same command" in str(error) else f"; {AGAIN}"
        return _fail(f"{error}{hint}", 1)
    except (KeyboardInterrupt, click.Abort):
        return _fail(f"stopped; {AGAIN}", 1)
    return code if isinstance(code, int) else 0


def call_job(name: str, arguments: Sequence[str]) -> int:
    """`call` of one command in a job of Ray, which runs in a copy of the working directory.

    The copy goes when the job ends: the folders that a command takes with --data, --output and
    --features must be absolute.
    """

    def absolute(context: click.Context, parameter: click.Parameter, folder: str | None) -> Any:
        if folder is not None and not Path(folder).is_absolute():
            raise click.BadParameter(
                f"{folder}: give an absolute path on storage that all nodes mount"
            )
        return folder

    for parameter in cli.commands[name].params:
        if parameter.name in ("data", "output", "features"):
            parameter.callback = absolute
    return call([name, *arguments])


def _fail(message: str, code: int) -> int:
    click.echo(f"reasonray: {' '.join(message.split())}", err=True)
    return code

"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

import sys
from collections.abc import Sequence

import click

from reasonray.cli import costs, dataset, editor, mini, serve
from reasonray.core.errors import RunError, UserError
from reasonray.core.extras import explained
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
    *(serve.serve_editor, serve.make_key, dataset.recipe, mini.mini),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line of this process and exit with its code."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str], *, in_job: bool = False) -> int:
    """Run one command line and give its exit code: 0 done, 1 failed, 2 the user's mistake.

    An exception that is not one of ours is a bug of ours and passes through, with its traceback.

    Args:
        arguments: without the program's name.
        in_job: whether this is a job of Ray, where folders must be absolute (`cli.options`).
    """
    try:
        with explained():
            code = cli.main(list(arguments), "reasonray", standalone_mode=False, obj=in_job)
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
        return _fail(f"{error}; {AGAIN}" if error.again else str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        return _fail(f"stopped; {AGAIN}", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    click.echo(f"reasonray: {' '.join(message.split())}", err=True)
    return code

"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import click

from reasonray.cli import agreement, costs, dataset, editor, evaluation, mini, serve, study
from reasonray.core.errors import RunError, UserError
from reasonray.core.extras import explained
from reasonray.core.version import __version__

AGAIN = "the same command continues it"

_OF_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the process of a job; checked with Ray 2.60."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it: reasonray generate mini --output out/demo",
)
@click.version_option(__version__, message="reasonray %(version)s")
def cli() -> None:
    """Expand image-editing datasets with reasoning instructions, on a laptop or a Ray cluster."""


for command in (
    *(dataset.generate, dataset.report, dataset.export, costs.plan_recipe),
    *(editor.compute_features, editor.train_editor),
    *(evaluation.make_benchmark, evaluation.evaluate_editors, evaluation.run_ablation),
    agreement.agreement,
    *(study.study, serve.serve_editor, serve.make_key, dataset.recipe, mini.mini),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line of this process and exit with its code."""
    run = job if _OF_A_JOB in os.environ else call
    sys.exit(run(sys.argv[1:]))


def job(arguments: Sequence[str]) -> int:
    """`call`, as a job of Ray, whose log's last line says how it has ended.

    Args:
        arguments: without the program's name.
    """
    if threading.current_thread() is threading.main_thread():
        # As Ray has it once it is joined; by default there would be no word of it.
        signal.signal(signal.SIGTERM, _exit)
    try:
        code = call(arguments, in_job=True)
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        return _fail(f"stopped by SIGTERM; {AGAIN}", 1)
    except Exception as error:  # noqa: BLE001  its traceback is printed, then the last line
        sys.excepthook(type(error), error, error.__traceback__)
        return _fail(f"a fault of its own: {type(error).__name__}: {error}", 1)
    if code == 0:
        click.echo("reasonray: done", err=True)
    return code


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(number)


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

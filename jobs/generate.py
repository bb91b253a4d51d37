"""The entry point of a job: `reasonray generate` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/generate.py mini --output /shared/out

Submitted again after `ray job stop` or a failure, it goes on where it was.
"""

import sys
from pathlib import Path

import click

from reasonray.cli import call, generate


def absolute(context: click.Context, parameter: click.Parameter, output: str) -> str:
    """Refuse a path that would lie in Ray's copy of the working directory, and go with it."""
    if not Path(output).is_absolute():
        raise click.BadParameter(f"{output}: give an absolute path on storage that all nodes mount")
    return output


if __name__ == "__main__":
    next(option for option in generate.params if option.name == "output").callback = absolute
    sys.exit(call(["generate", *sys.argv[1:]]))

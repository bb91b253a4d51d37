"""The entry point of a job: `reasonray train` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/train.py paper --data /shared/out --output /shared/ed

Submitted again after `ray job stop` or a failure, it goes on where it was.
"""

import sys
from pathlib import Path

import click

from reasonray.cli import call, train_editor


def absolute(context: click.Context, parameter: click.Parameter, folder: str) -> str:
    """Refuse a path that would lie in Ray's copy of the working directory, and go with it."""
    if not Path(folder).is_absolute():
        raise click.BadParameter(f"{folder}: give an absolute path on storage that all nodes mount")
    return folder


if __name__ == "__main__":
    for option in train_editor.params:
        if option.name in ("data", "output"):
            option.callback = absolute
    sys.exit(call(["train", *sys.argv[1:]]))

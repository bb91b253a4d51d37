"""The entry point of a job: `reasonray train` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/train.py paper --data /shared/out --output /shared/ed

Submitted again after `ray job stop` or a failure, it goes on where it was.
"""

import sys

from reasonray.cli.main import job

if __name__ == "__main__":
    sys.exit(job(["train", *sys.argv[1:]]))

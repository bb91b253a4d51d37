"""The entry point of a job: `reasonray features` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/features.py paper --data /shared/out \
    --output /shared/features

Submitted again after `ray job stop` or a failure, it goes on where it was. Trainings then find
their features with `--features /shared/features`, on machines of another kind.
"""

import sys

from reasonray.cli.main import job

if __name__ == "__main__":
    sys.exit(job(["features", *sys.argv[1:]]))

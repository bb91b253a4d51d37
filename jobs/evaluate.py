"""The entry point of a job: `reasonray evaluate` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/evaluate.py paper --editor ours=/shared/ed/editor \
    --benchmark /shared/benchmark --output /shared/evaluation

Submitted again after `ray job stop` or a failure, it goes on where it was.
"""

import sys

from reasonray.cli.main import job

if __name__ == "__main__":
    sys.exit(job(["evaluate", *sys.argv[1:]]))

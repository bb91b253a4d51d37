"""The entry point of a job: `reasonray ablate` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/ablate.py paper --data /shared/out \
    --benchmark /shared/benchmark --output /shared/ablation

Submitted again after `ray job stop` or a failure, it goes on where it was.
"""

import sys

from reasonray.cli.main import job

if __name__ == "__main__":
    sys.exit(job(["ablate", *sys.argv[1:]]))

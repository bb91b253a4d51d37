"""The entry point of a job: `reasonray report` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/report.py /shared/out

Where the output lies on a store or a mount that only the cluster reaches; also while a run goes on.
"""

import sys

from reasonray.cli.main import job

if __name__ == "__main__":
    sys.exit(job(["report", *sys.argv[1:]]))

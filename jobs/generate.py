"""The entry point of a job: `reasonray generate` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/generate.py mini --output /shared/out

Submitted again after `ray job stop` or a failure, it goes on where it was.
"""

import sys

from reasonray.cli.main import call

if __name__ == "__main__":
    sys.exit(call(["generate", *sys.argv[1:]], in_job=True))

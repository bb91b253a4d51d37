"""The entry point of a job: `reasonray generate` on the cluster it is submitted to.

ray job submit --working-dir . -- python jobs/generate.py mini --output /shared/out

Submitted again after `ray job stop` or a failure, it goes on where it was. Where the package is
installed on the cluster, `ray job submit -- reasonray generate …` is the same without files.
"""

import sys

from reasonray.cli.main import job

if __name__ == "__main__":
    sys.exit(job(["generate", *sys.argv[1:]]))

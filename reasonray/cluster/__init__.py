"""Ray: joined or started (`joining`), looked through for room (`room`), its head watched (`head`).

The one place that does so, for the pipeline and for the editor's jobs, and where Ray's failures
become errors of ours (`running`).
"""

from reasonray.cluster.joining import connected, current_job, own
from reasonray.cluster.room import num_gpus
from reasonray.cluster.running import executed, hide_gpus_unless, settings

__all__ = [
    "connected",
    "current_job",
    "executed",
    "hide_gpus_unless",
    "num_gpus",
    "own",
    "settings",
]

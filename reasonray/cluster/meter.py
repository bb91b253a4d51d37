"""What the pools have done, for Prometheus, at each node's metrics port; Ray puts `ray_` before.

- reasonray_rows{stage, outcome}: rows that a stage has finished or rejected
- reasonray_stage_seconds{stage}: of its work
- reasonray_tokens{stage, kind}: of its language model, prompt or completion
- reasonray_pool_busy{pool}: of each process, 0..1, the time that it had rows in hand
"""

from ray.util.metrics import Counter, Gauge


class RayMeter:
    """A process's counters; it has to be one of Ray's.

    Args:
        pool: the name that its stages make.
    """

    def __init__(self, pool: str) -> None:
        self._rows = Counter(
            "reasonray_rows",
            description="Rows that a stage has finished or rejected",
            tag_keys=("stage", "outcome"),
        )
        self._seconds = Counter(
            "reasonray_stage_seconds",
            description="Seconds of work, summed over processes",
            tag_keys=("stage",),
        )
        self._tokens = Counter(
            "reasonray_tokens",
            description="Tokens that a stage's language model has read or written",
            tag_keys=("stage", "kind"),
        )
        self._busy = Gauge(
            "reasonray_pool_busy",
            description="Part of its time that a process of a pool had rows in hand, 0..1",
            tag_keys=("pool",),
        )
        self._busy.set_default_tags({"pool": pool})

    def rows(self, stage: str, finished: int, rejected: int, seconds: float) -> None:
        """A stage has worked on some rows.

        Args:
            stage: its name.
            finished: rows that it let pass.
            rejected: rows that it rejected.
            seconds: that it took.
        """
        for outcome, count in (("finished", finished), ("rejected", rejected)):
            if count:
                self._rows.inc(count, {"stage": stage, "outcome": outcome})
        if seconds > 0:
            self._seconds.inc(seconds, {"stage": stage})

    def tokens(self, stage: str, num_read: int, num_written: int) -> None:
        """A stage's language model has answered."""
        for kind, count in (("prompt", num_read), ("completion", num_written)):
            if count:
                self._tokens.inc(count, {"stage": stage, "kind": kind})

    def busy(self, share: float) -> None:
        """How much of the last seconds the process had rows in hand, 0..1."""
        self._busy.set(share)

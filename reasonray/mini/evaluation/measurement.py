"""A figure of the zoo beside its target."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One line of the evaluation's table.

    Attributes:
        name: what was measured, readable by itself.
        value: the figure; a share is 0..1.
        target: what it should reach; None: shown for information.
        higher_is_better: whether the target is a least or a largest value.
        count: how many cases it is the mean over.
    """

    name: str
    value: float
    target: float | None
    higher_is_better: bool
    count: int

    @property
    def reached(self) -> bool:
        """Whether the target is met, if there is one."""
        if self.target is None:
            return True
        return self.value >= self.target if self.higher_is_better else self.value <= self.target


def share(
    name: str, hits: int, count: int, target: float | None = None, *, least: bool = True
) -> Measurement:
    """The share of hits among cases; `least` says whether the target is a least value."""
    return Measurement(name, hits / max(1, count), target, least, count)

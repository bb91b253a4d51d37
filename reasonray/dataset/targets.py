"""How the targets of the accepted samples are spread: a language model likes some far too much."""

from collections import Counter
from collections.abc import Mapping

NUM_COMMON = 10
MAX_COMMON_SHARE = 0.5
MIN_SAMPLES = 200
"""With fewer, some targets are common by chance."""


def common_targets(counts: Mapping[str, int]) -> dict[str, int]:
    """The `NUM_COMMON` commonest, the commonest first; equal ones in alphabetical order."""
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(listed[:NUM_COMMON])


def few_dominate(counts: Mapping[str, int]) -> str | None:
    """A sentence of warning where the commonest targets make up most of the samples, else None.

    Args:
        counts: of the accepted samples that have a target, by target.
    """
    total = Counter(counts).total()
    share = sum(common_targets(counts).values()) / max(total, 1)
    if total < MIN_SAMPLES or share <= MAX_COMMON_SHARE or len(counts) <= NUM_COMMON:
        return None
    return (
        f"{share:.0%} of the targets are one of the {NUM_COMMON} commonest of {len(counts):,}: an "
        "editor will learn to prefer them. Another language model, or a higher temperature of "
        "stages.propose, spreads them."
    )

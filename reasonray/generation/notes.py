"""Short values that outlive the process that wrote them, and that the driver reads while it runs.

The pools' processes keep there what they have in hand (`journal`) and what they have counted
(`counts`). On a cluster they lie with its head (`ray_notes`), which a run does not outlive anyway.
"""

from collections.abc import Mapping
from typing import Protocol


class Notes(Protocol):
    """Where notes are kept; each is written by one process at a time."""

    @property
    def node(self) -> str:
        """Which machine this process is on."""

    def living(self) -> set[str]:
        """The machines that are there now, as `node` calls them."""

    def read(self, key: str) -> bytes | None:
        """What was written last; None: nothing."""

    def write(self, key: str, content: bytes) -> None:
        """Keep it, instead of what was there."""

    def every(self, prefix: str) -> Mapping[str, bytes]:
        """All notes whose keys begin so, by key."""

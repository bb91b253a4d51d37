"""Notes in a dictionary, for pools that run in a test's own process."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass
class DictNotes:
    """`Notes`; `node` and `machines` are what a test says they are."""

    node: str = "here"
    machines: set[str] = dataclasses.field(default_factory=lambda: {"here"})
    kept: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def living(self) -> set[str]:
        return self.machines

    def read(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def write(self, key: str, content: bytes) -> None:
        self.kept[key] = content

    def every(self, prefix: str) -> Mapping[str, bytes]:
        return {key: content for key, content in self.kept.items() if key.startswith(prefix)}

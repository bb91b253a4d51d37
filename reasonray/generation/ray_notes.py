"""Notes that lie with the head of a Ray cluster, in its key-value store."""

from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray.experimental import internal_kv

_NAMESPACE = b"reasonray"


@dataclass(frozen=True)
class RayNotes:
    """`Notes` of one purpose of one session; any process of the cluster can have a copy.

    Attributes:
        prefix: of their keys, different from everybody else's on the cluster.
    """

    prefix: str

    @property
    def node(self) -> str:
        """Ray's id of the machine that this process is on."""
        name: str = ray.get_runtime_context().get_node_id()
        return name

    def living(self) -> set[str]:
        """Ray's ids of the machines that the head hears of."""
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}

    def read(self, key: str) -> bytes | None:
        """What was written last; about a millisecond."""
        content: bytes | None = internal_kv._internal_kv_get(  # noqa: SLF001
            self._key(key), namespace=_NAMESPACE
        )
        return content

    def write(self, key: str, content: bytes) -> None:
        """Keep it; about a millisecond."""
        internal_kv._internal_kv_put(  # noqa: SLF001
            self._key(key), content, namespace=_NAMESPACE
        )

    def every(self, prefix: str) -> Mapping[str, bytes]:
        """All notes whose keys begin so, at once."""
        keys = internal_kv._internal_kv_list(self._key(prefix), namespace=_NAMESPACE)  # noqa: SLF001
        client = internal_kv.internal_kv_get_gcs_client()
        contents = client.internal_kv_multi_get(keys, _NAMESPACE) if keys else {}
        start = len(self._key(""))
        return {key[start:].decode(): content for key, content in contents.items()}

    def clear(self) -> None:
        """Have none any more: a cluster outlives many runs."""
        internal_kv._internal_kv_del(  # noqa: SLF001
            self._key(""), del_by_prefix=True, namespace=_NAMESPACE
        )

    def _key(self, key: str) -> bytes:
        return f"{self.prefix}/{key}".encode()

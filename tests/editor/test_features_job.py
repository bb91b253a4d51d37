import contextlib
from collections.abc import Iterator, Sequence

import pytest
import torch

from reasonray.core.recipe import load
from reasonray.core.sections import PoolConfig
from reasonray.editor import features_job


@pytest.mark.parametrize(
    ("settings", "num_gpus", "expected"),
    [
        ([], 8, (1, 8)),
        ([], 0, (1, 1)),
        (["editor.machines.num_workers=4"], 8, (4, 4)),
        (["editor.machines.num_gpus=0"], 8, (1, 1)),
    ],
)
def test_there_is_room_for_as_many_processes_as_the_machine_has_gpus(
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    num_gpus: int,
    expected: tuple[int, int],
) -> None:
    """Where none are set: of our own Ray's CPUs are no more than are asked for."""
    rooms: list[PoolConfig] = []

    @contextlib.contextmanager
    def connected(pools: Sequence[PoolConfig], *_: object) -> Iterator[None]:
        rooms.extend(pools)
        yield

    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(features_job, "connected", connected)
    with features_job.connected_for(load("paper", settings), "num_workers"):
        pass
    [room] = rooms
    assert (room.min_actors, room.max_actors) == expected

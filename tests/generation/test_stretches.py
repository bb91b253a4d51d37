from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_outputs import finished

from reasonray.core.sections import OutputConfig
from reasonray.generation.audit import judged
from reasonray.generation.stretches import Stretch, lots, stretches

SMALL: Any = OutputConfig.model_construct(block_rows=8, shard_mb=0.01, row_group_rows=2)  # type: ignore[arg-type]


def cut(output: Path, **changes: object) -> list[Stretch]:
    workspace, session, work = finished(output, **changes)  # type: ignore[arg-type]
    return stretches(workspace, session, SMALL, judged(workspace, work))


def test_a_stretch_ends_with_the_row_that_fills_one_of_its_shards(tmp_path: Path) -> None:
    made = cut(tmp_path / "out", variations=2)
    assert sum(len(stretch.row) for stretch in made) == 36
    assert len(made) > 5
    for stretch in made[:-1]:
        # Rows of pictures of 24 pixels: some 4,600 bytes, of which three fill a shard of 10 kB.
        most = max(stretch.is_accepted.sum(), (~stretch.is_accepted).sum())
        assert most == 3
        assert stretch.is_accepted[-1] == (stretch.is_accepted.sum() == most)


def test_near_duplicates_are_known_where_they_stand(tmp_path: Path) -> None:
    made = cut(tmp_path / "out", variations=2)
    [(stretch, place)] = [(each, place) for each in made for place in each.duplicates]
    assert stretch.duplicates[place] == "II/toy/0001/0"
    assert not stretch.is_accepted[place]


@pytest.mark.parametrize(
    ("num_stretches", "num_processes", "num_lots"),
    [(1, 2, 1), (6, 2, 2), (7, 2, 2), (100, 2, 26), (30, 16, 16), (100, 16, 32)],
)
def test_processes_share_neighbours_evenly(
    tmp_path: Path, num_stretches: int, num_processes: int, num_lots: int
) -> None:
    none = np.empty(0, np.int64)
    every = [
        Stretch(number, tmp_path, "000001", SMALL, [], none, none, none > 0, {}, 0)
        for number in range(num_stretches)
    ]
    shared = lots(every, num_processes)
    assert [stretch for lot in shared for stretch in lot] == every
    sizes = [len(lot) for lot in shared]
    assert len(sizes) == num_lots
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 4

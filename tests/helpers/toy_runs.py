"""Runs of the toy stages in a process of their own, and what is seen of them from outside."""

import os
import subprocess
import sys

from one_cluster import HELPERS
from toy_stages import Build, Plan, recipe, sequential

from reasonray.core.place import Place, parquet
from reasonray.core.record import is_rejected
from reasonray.core.session import last_session
from reasonray.dataset.manifest import KINDS, complete_manifest
from reasonray.dataset.reading import shards
from reasonray.generation.work import finished

DRIVER = HELPERS / "toy_driver.py"


def start(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
    """`toy_driver.py`, on the Ray of `RAY_ADDRESS` or else one of its own."""
    return subprocess.Popen(
        [sys.executable, str(DRIVER), *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_worker_niceness": "0", **environment},
    )


def num_committed(output: Place) -> int:
    """Rows that count, seen from outside while the run goes on."""
    folder = output / ".run"
    index = finished(folder / "work", folder / "sealed", last_session(folder))
    return int(index.num_rows)


def published(output: Place) -> dict[str, dict[str, object]]:
    """Everything published, by id."""
    found: dict[str, dict[str, object]] = {}
    for kind in KINDS:
        for path in shards(output, complete_manifest(output), kind):
            for row in parquet(path).read().to_pylist():
                assert row["id"] not in found
                found[row["id"]] = {"kind": kind, **row}
    return found


def assert_same(output: Place, plan: Plan, build: Build, **changes: object) -> None:
    """The published rows are those of the plain loop, ids, texts and images."""
    expected = sequential(recipe(**changes), build, plan)
    found = published(output)
    assert found.keys() == expected.keys()
    for row_id, row in found.items():
        want = expected[row_id]
        assert row["kind"] == ("rejected" if is_rejected(want) else "accepted"), row_id
        for name in ("instruction", "input_image", "edited_image", "candidates"):
            assert row[name] == want.get(name), (row_id, name)

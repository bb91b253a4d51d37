"""Runs whose output is on an object store, and everything that can happen to them there.

Ray is what is tested: its commit on a store, its actors that outlive their driver.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from object_store import Store
from one_cluster import Cluster
from toy_outputs import write_table
from toy_runs import assert_same, num_committed, start
from toy_stages import SIDE, Build, Plan, recipe

import reasonray
from reasonray.core.place import Place, files, parquet, place
from reasonray.core.session import last_session
from reasonray.dataset.manifest import KINDS, complete_manifest
from reasonray.dataset.reading import read_rows, shards
from reasonray.generation.report import write_report

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]

COMMAND = "import sys; from reasonray.cli.main import call; sys.exit(call(sys.argv[1:]))"

NUM = 24
"""Rows of each of the three parts."""


def wait_for(driver: "subprocess.Popen[str]", is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not is_so():
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def has_committed(output: Place, num_rows: int) -> bool:
    return num_committed(output) >= num_rows


def two_at_once(output: Place, **where: str) -> "subprocess.Popen[str]":
    """The one of two drivers, started in the same moment, that is not refused."""
    drivers = [start(output, NUM, 0.05, **where) for _ in range(2)]
    deadline = time.monotonic() + 120
    while all(driver.poll() is None for driver in drivers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    drivers.sort(key=lambda driver: driver.poll() is None)
    refused, going = drivers
    assert refused.returncode == 2
    assert "another run is writing here (process" in refused.communicate()[1]
    return going


def add_pending_twin(output: Place) -> None:
    """What an end between the copy and the deletion leaves, which on a store are a commit."""
    every = [path for path in files(output / ".run/work") if path.parent.name == "checkpoint"]
    mark = random.choice([path for path in every if ".pending." not in path.name])
    write_table(parquet(mark).read(), mark.with_name(f"{mark.stem}.pending.parquet"))


def commit_as_a_zombie(output: Place, session: int) -> None:
    """What an actor commits late, of a session whose successor has sealed: all rows, and wrong."""
    folder = output / ".run/work" / f"{session:06}"
    # The session may have ended before its first row.
    every = files(output / ".run/work", ".parquet")
    [data, *_] = [path for path in every if path.parent.name.startswith("status=")]
    table = parquet(data).read()
    ids = [row["id"] for row in Plan(NUM)(recipe(), Path())]
    wrong = table.slice(0, 1).to_pylist()[0]
    rows = [{**wrong, "id": row_id, "instruction": "of a zombie"} for row_id in ids]
    zombie = pa.Table.from_pylist(rows, schema=table.schema)
    write_table(zombie, folder / "rows" / data.parent.name / "zombie-0.parquet")
    write_table(zombie.select(["id"]), folder / "checkpoint/zombie.parquet")


def torture(output: Place, store: Store, kills: int, away_s: float, **where: str) -> None:
    """A run to its end, killed so often, with everything else in between."""
    rows_before = sorted(random.sample(range(8, 3 * NUM - 24), kills))
    driver = two_at_once(output, **where)
    for num_rows in rows_before:
        wait_for(driver, partial(has_committed, output, num_rows))
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        add_pending_twin(output)
        number = last_session(output / ".run")
        # Slow enough to be at work still when the store goes away.
        driver = start(output, NUM, 0.1, **where)
        seal = output / ".run/sealed" / f"{number + 1:06}.parquet"
        wait_for(driver, seal.exists)
        commit_as_a_zombie(output, number)
    before = store.num_refused
    wait_for(driver, partial(has_committed, output, num_committed(output) + 1))
    with store.away():
        time.sleep(away_s)
    _, errors = driver.communicate(timeout=240)
    assert driver.returncode == 0, errors
    assert store.num_refused > before
    assert f"of {3 * NUM} rows are done" in errors


def assert_whole(output: Place) -> None:
    """Every row once, as in the plain loop; for whoever reads it."""
    assert_same(output, Plan(NUM), Build())
    manifest = complete_manifest(output)
    for kind in KINDS:
        assert files(output / kind) == shards(output, manifest, kind)
    assert files(output / ".run") == []
    assert write_report(str(output)).exists()


def assert_opened_by_others(output: Place, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`reasonray.read`, `datasets` and `reasonray export` read it where it is."""
    import datasets

    # Another test may have been the first to import it, with the hub switched off.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    manifest = complete_manifest(output)
    records = list(reasonray.read(str(output)))
    assert len(records) == manifest.accepted
    assert records[0]["input_image"].size == (SIDE, SIDE)
    shown = datasets.load_dataset(
        "parquet", data_files=f"{output}/accepted/*.parquet", split="train", cache_dir=str(cache)
    )
    assert shown["id"] == [record["id"] for record in records]
    assert shown[0]["edited_image"].size == (SIDE, SIDE)
    assert reasonray.export(str(output), "diffusers", f"{output}/exported") == len(records)
    assert files(output / "exported/train", ".parquet")


@pytest.mark.parametrize(
    ("kills", "away_s"),
    [(1, 6.0), *[pytest.param(3, 20.0, marks=pytest.mark.nightly)] * 5],
)
def test_a_run_on_a_store_ends_as_if_nothing_had_happened(
    cluster: Cluster,
    store: Store,
    bucket: str,
    tmp_path: Path,
    kills: int,
    away_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = place(bucket)
    torture(output, store, kills, away_s, RAY_ADDRESS=cluster.address)
    assert_whole(output)
    assert_opened_by_others(output, tmp_path, monkeypatch)


@pytest.mark.nightly
def test_the_mini_world_on_a_store_is_as_on_a_disk_however_often_it_is_killed(
    cluster: Cluster, store: Store, bucket: str, tmp_path: Path
) -> None:
    """The command itself, with two at once, three kills and a store that is away for 20 s."""
    sources = ["--source", "mini=40", "--set", "output.block_rows=4"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RAY_ADDRESS": cluster.address,
    }

    def generate(output: str) -> "subprocess.Popen[str]":
        line = [sys.executable, "-c", COMMAND, "generate", "mini", "--output", output, *sources]
        return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)

    plain = str(tmp_path / "out")
    undisturbed = generate(plain)
    _, errors = undisturbed.communicate(timeout=400)
    assert undisturbed.returncode == 0, errors
    output = place(bucket)
    drivers = [generate(bucket) for _ in range(2)]
    while all(driver.poll() is None for driver in drivers):
        time.sleep(0.1)
    drivers.sort(key=lambda driver: driver.poll() is None)
    refused, driver = drivers
    assert "another run is writing here (process" in refused.communicate()[1]
    for num_rows in sorted(random.sample(range(1, 48), 3)):
        wait_for(driver, partial(has_committed, output, num_rows))
        driver.kill()
        driver.communicate()
        driver = generate(bucket)
    wait_for(driver, partial(has_committed, output, num_committed(output) + 1))
    with store.away():
        time.sleep(20)
    _, errors = driver.communicate(timeout=400)
    assert driver.returncode == 0, errors
    for kind in KINDS:
        here, there = ({row["id"]: row for row in read_rows(at, kind)} for at in (plain, bucket))
        assert list(here) == list(there)
        for row_id, row in here.items():
            assert_alike(dict(row), dict(there[row_id]), row_id)


def assert_alike(here: Any, there: Any, path: str) -> None:
    """The same, but for the rounding of models that had other rows beside this one."""
    if isinstance(here, float):
        assert there == pytest.approx(here, abs=1e-3), path
    elif isinstance(here, dict) and here.get("bytes"):
        a, b = (np.asarray(PIL.Image.open(BytesIO(each["bytes"])), int) for each in (here, there))
        assert np.abs(a - b).mean() < 0.1, path
    elif isinstance(here, dict):
        assert here.keys() == there.keys(), path
        # A rejection may say where its picture was to lie.
        for name in here.keys() - {"detail"}:
            assert_alike(here[name], there[name], f"{path}.{name}")
    else:
        assert here == there, path

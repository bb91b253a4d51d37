import shutil
import time
from pathlib import Path

import pytest
from finished_work import finish, plan_rows, publish_all
from one_cluster import Cluster
from toy_runs import published, start
from toy_stages import recipe

from reasonray.dataset.manifest import complete_manifest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

NUM_ROWS = 800


def test_a_publication_that_is_killed_goes_on_with_the_shards_that_are_missing(
    cluster: Cluster, tmp_path: Path
) -> None:
    # Ray is what is killed: its driver, in the middle of the tasks that write shards.
    output, plain = tmp_path / "out", tmp_path / "plain"
    small = {**recipe().output.model_dump(), "shard_mb": 1}
    plan_rows(output, recipe(output=small), NUM_ROWS)
    finish(output, picture_bytes=50_000, block_rows=64)
    shutil.copytree(output, plain)
    publish_all(plain)
    arguments = (output, NUM_ROWS, 0.0, "--shard-mb", 1)
    driver = start(*arguments, RAY_ADDRESS=cluster.address)
    notes = output / ".run/published"
    while not list(notes.glob("*.json")):
        assert driver.poll() is None
        time.sleep(0.005)
    driver.kill()
    driver.communicate()
    noted = {path.name.partition(".")[0] for path in notes.glob("*.json")}
    before = {
        path: path.stat()
        for path in output.glob("*ed/*.parquet")
        if path.name.partition("-")[0] in noted
    }
    again = start(*arguments, RAY_ADDRESS=cluster.address)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    manifest = complete_manifest(output)
    names = manifest.shards["accepted"]
    assert 0 < len(noted) < len(names)
    assert len({name.rpartition("-")[2] for name in names}) == 2
    for path, stat in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert published(output) == published(plain)
    expected = complete_manifest(plain)
    for name in ("parts", "rejections", "distinct_instructions", "common_targets", "models"):
        assert getattr(manifest, name) == getattr(expected, name)
    assert not (output / ".run").exists()

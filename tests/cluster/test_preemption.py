"""Machines that are taken away, as spot machines are: Ray knows which process ended with which."""

import time
from pathlib import Path

import one_cluster
import pytest
from object_store import Store
from toy_runs import assert_same, start
from toy_stages import Build, Plan

from reasonray.core.place import place

pytestmark = [pytest.mark.ray, pytest.mark.nightly, pytest.mark.timeout(900)]


def test_a_row_that_two_machines_were_lost_with_is_not_rejected(
    store: Store, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = tmp_path / "attempts"
    attempts.touch()
    monkeypatch.setenv("TOY_SLOW", str(attempts))
    plan = Plan(1, ((0, "slow"),))
    with one_cluster.started(num_cpus=3) as head:
        # The painter has room on the machines that go alone.
        driver = start(
            bucket, 1, 0.0, "slow@0", "--cpus", 4, "--wait", 60, RAY_ADDRESS=head.address
        )
        for number in (1, 2, 3):
            with one_cluster.joined(head, num_cpus=4) as machine:
                deadline = time.monotonic() + 120
                while len(attempts.read_text().splitlines()) < number:
                    assert driver.poll() is None, driver.communicate()[1]
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
                if number < 3:
                    one_cluster.kill(machine, "ray")
                else:
                    _, errors = driver.communicate(timeout=120)
                    assert driver.returncode == 0, errors
    assert len(set(attempts.read_text().splitlines())) == 3
    assert_same(place(bucket), plan, Build())

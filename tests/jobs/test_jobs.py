"""Jobs on a cluster of this machine, started as the README says but on ports of its own."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_runs import DRIVER, HELPERS, ROOT, assert_same, num_committed
from toy_stages import Build, Plan

from reasonray.dataset.manifest import read_manifest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

NUM_CPUS = 6


def free_ports(count: int) -> list[int]:
    """Below the range from which the system, and so Ray's other processes, take theirs."""
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free ports")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address for jobs of `ray start --head`; ended by its own process group alone."""
    folder = tempfile.mkdtemp(prefix="rr", dir="/tmp")  # socket paths must stay short
    names = ["port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"]
    names += ["metrics-export-port", "runtime-env-agent-port", "ray-client-server-port"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(HELPERS),
    }
    environment.pop("RAY_ADDRESS", None)
    head = subprocess.Popen(
        [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
            *("--num-cpus", str(NUM_CPUS), "--temp-dir", folder, "--dashboard-host", "127.0.0.1"),
            *("--node-ip-address", "127.0.0.1", "--object-store-memory", "500000000"),
            *(f"--{name}={port}" for name, port in ports.items()),
        ],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield f"http://127.0.0.1:{ports['dashboard-port']}"
    head.terminate()
    try:
        head.wait(timeout=30)
    except subprocess.TimeoutExpired:
        head.kill()
    # Its children have the same group; nobody else is in it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def patiently(action: Callable[[], Any], timeout_s: float = 240) -> Any:
    """Try while the head is still starting: its agent takes jobs later than its dashboard."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return action()
        except (OSError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


class Jobs:
    """Submits, waits, stops."""

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self.client = patiently(lambda: JobSubmissionClient(address))

    def submit(self, *arguments: object) -> str:
        entrypoint = " ".join(map(str, (sys.executable, *arguments)))
        return str(patiently(lambda: self.client.submit_job(entrypoint=entrypoint)))

    def is_running(self, job: str) -> bool:
        return not self.client.get_job_status(job).is_terminal()

    def end(self, job: str, timeout_s: float = 240) -> tuple[str, str]:
        """Status and log of a job that has ended."""
        deadline = time.monotonic() + timeout_s
        while self.is_running(job):
            assert time.monotonic() < deadline, self.client.get_job_logs(job)
            time.sleep(0.5)
        return self.client.get_job_status(job).value, self.client.get_job_logs(job)


@pytest.fixture(scope="module")
def jobs(cluster: str) -> Jobs:
    return Jobs(cluster)


def test_a_job_stopped_in_the_middle_and_submitted_again_loses_and_doubles_nothing(
    jobs: Jobs, tmp_path: Path
) -> None:
    output, num = tmp_path / "out", 24
    job = jobs.submit(DRIVER, output, num, 0.1)
    while num_committed(output) < 8:
        assert jobs.is_running(job), jobs.client.get_job_logs(job)
        time.sleep(0.2)
    jobs.client.stop_job(job)
    status, _ = jobs.end(job)
    assert status == "STOPPED"
    assert read_manifest(output) is None
    status, log = jobs.end(jobs.submit(DRIVER, output, num, 0.0))
    assert status == "SUCCEEDED", log
    assert f"of {3 * num} rows are done" in log
    assert_same(output, Plan(num), Build())


def test_too_few_cpus_are_named_in_a_first_run_and_in_a_resumed_one(
    jobs: Jobs, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    status, log = jobs.end(jobs.submit(DRIVER, output, 4, 0.0, "outage@3"))
    assert status == "FAILED"
    assert "the server is gone" in log
    for folder in (output, tmp_path / "new"):
        status, log = jobs.end(jobs.submit(DRIVER, folder, 4, 0.0, "--actors", 4))
        assert status == "FAILED"
        assert f"needs at least 11 CPUs, the cluster has {NUM_CPUS} CPUs" in log


@pytest.mark.parametrize("output", [["--output", "out"], ["--output=../out"]])
def test_a_relative_output_is_refused_because_it_would_be_lost(
    output: list[str], tmp_path: Path
) -> None:
    line = [sys.executable, ROOT / "jobs/generate.py", "mini", *output]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "absolute path on storage that all nodes mount" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_job_is_the_command_line(jobs: Jobs, tmp_path: Path) -> None:
    script = ROOT / "jobs/generate.py"
    status, log = jobs.end(jobs.submit(script, "minni", "--output", tmp_path / "out"))
    assert status == "FAILED"
    assert "recipe minni: not one of" in log
    assert "did you mean mini?" in log


def test_a_training_is_submitted_likewise(jobs: Jobs, tmp_path: Path) -> None:
    words = ["mini", "--data", tmp_path / "data", "--output", tmp_path / "out"]
    status, log = jobs.end(jobs.submit(ROOT / "jobs/train.py", *words))
    assert status == "FAILED"
    assert "data: no complete output of reasonray" in log
    relative = [sys.executable, ROOT / "jobs/train.py", *words, "--features", "cache"]
    done = subprocess.run(relative, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "cache: give an absolute path" in done.stderr

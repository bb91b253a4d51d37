"""Jobs on a cluster of this machine, started as the README says but on ports of its own."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dashboards import expressions, missing, never_told, requirements
from one_cluster import NUM_CPUS, ROOT, Cluster
from toy_runs import DRIVER, assert_same, num_committed
from toy_stages import Build, Plan, recipe

from reasonray.dataset.manifest import read_manifest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


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
def jobs(cluster: Cluster) -> Jobs:
    return Jobs(cluster.jobs_address)


DASHBOARD = ROOT / "cluster" / "grafana" / "generation.json"
METRICS = {
    "ray_reasonray_rows_total": {"stage", "outcome"},
    "ray_reasonray_stage_seconds_total": {"stage"},
    "ray_reasonray_tokens_total": {"stage", "kind"},
    "ray_reasonray_pool_busy": {"pool"},
}


def test_a_job_stopped_in_the_middle_and_submitted_again_loses_and_doubles_nothing(
    cluster: Cluster, jobs: Jobs, tmp_path: Path
) -> None:
    output, num = tmp_path / "out", 24
    # Slow enough to be at work when Ray reports, every 10 s.
    job = jobs.submit(DRIVER, output, num, 0.4)
    while num_committed(output) < 8:
        assert jobs.is_running(job), jobs.client.get_job_logs(job)
        time.sleep(0.2)
    shown = requirements(expressions(DASHBOARD))
    assert missing(METRICS, shown) == []
    assert never_told(shown, cluster.metrics) == []
    jobs.client.stop_job(job)
    status, log = jobs.end(job)
    assert status == "STOPPED"
    assert "SIGTERM" in log.splitlines()[-1]
    assert read_manifest(output) is None
    second = jobs.submit(DRIVER, output, num, 0.0)
    status, log = jobs.end(second)
    assert status == "SUCCEEDED", log
    assert f"of {3 * num} rows are done" in log
    assert_same(output, Plan(num), Build())
    made = read_manifest(output)
    assert made is not None
    assert [each.submission_id for each in made.jobs] == [job, second]
    assert len({each.job_id for each in made.jobs}) == 2
    assert made.pools.keys() == {"+".join(pool.stages) for pool in recipe().pools}
    assert all(pool.busy_seconds > 0 < pool.idle_seconds for pool in made.pools.values())


@pytest.mark.parametrize("is_resumed", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_too_few_cpus_are_named_in_a_first_run_and_in_a_resumed_one(
    jobs: Jobs, tmp_path: Path, is_resumed: bool
) -> None:
    output = tmp_path / "out"
    if is_resumed:
        status, log = jobs.end(jobs.submit(DRIVER, output, 4, 0.0, "outage@3"))
        assert status == "FAILED"
        assert "the server is gone" in log
    status, log = jobs.end(jobs.submit(DRIVER, output, 4, 0.0, "--actors", 4))
    assert status == "FAILED"
    assert f"needs at least 10 CPUs, the cluster has {NUM_CPUS} CPUs" in log


@pytest.mark.parametrize("output", [["--output", "out"], ["--output=../out"]])
def test_a_relative_output_is_refused_because_it_would_be_lost(
    output: list[str], tmp_path: Path
) -> None:
    line = [sys.executable, str(ROOT / "jobs/generate.py"), "mini", *output]
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


def test_the_working_directory_is_sent_once_and_is_small(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.dashboard.modules.dashboard_sdk import SubmissionClient

    sizes: list[int] = []
    upload = SubmissionClient._do_request  # noqa: SLF001

    def watched(client: Any, method: str, endpoint: str, *, data: Any = None, **rest: Any) -> Any:
        if method == "PUT":
            sizes.append(len(data))
        return upload(client, method, endpoint, data=data, **rest)

    monkeypatch.setattr(SubmissionClient, "_do_request", watched)
    line = [sys.executable, "jobs/report.py", str(tmp_path)]
    for _ in range(2):
        job = jobs.client.submit_job(
            entrypoint=" ".join(line), runtime_env={"working_dir": str(ROOT)}
        )
        status, log = jobs.end(job)
        assert status == "FAILED"
        assert log.splitlines()[-1].startswith(f"reasonray: {tmp_path}: ")
    assert len(sizes) == 1
    # The zoo's weights are most of it: the judge's alone are 3 MB.
    assert sizes[0] <= 44_000_000


def test_an_installed_package_needs_no_file_of_ours(jobs: Jobs, tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "reasonray"
    job = jobs.client.submit_job(entrypoint=f"{program} report out")
    status, log = jobs.end(job)
    assert status == "FAILED"
    assert "out: give an absolute path on storage that all nodes mount" in log.splitlines()[-1]


def test_a_training_is_submitted_likewise(jobs: Jobs, tmp_path: Path) -> None:
    words = ["mini", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    status, log = jobs.end(jobs.submit(ROOT / "jobs/train.py", *words))
    assert status == "FAILED"
    assert "data: no complete output of reasonray" in log


@pytest.mark.parametrize(
    "words",
    [
        ["train", "mini", "--data", "/data", "--output", "/out", "--features", "cache"],
        ["evaluate", "mini", "--editor", "truth", "--output", "/out", "--benchmark", "ours=cache"],
        ["evaluate", "mini", "--editor", "a=pictures:cache", "--output", "/o", "--benchmark", "/b"],
        ["ablate", "mini", "--data", "cache", "--output", "/o", "--benchmark", "/b"],
    ],
)
def test_relative_folders_are_refused_because_other_nodes_have_none(
    tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "cache").mkdir()
    line = [sys.executable, str(ROOT / f"jobs/{words[0]}.py"), *words[1:]]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "cache: give an absolute path" in done.stderr

"""The one Ray of a test session: `ray start --head` on this machine, on ports of its own."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]

NUM_CPUS = 8
NUM_GPUS = 2
"""In name only, for the tests of who sees which."""


PORTS_OF_A_NODE = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)
"""Two of these on one machine would share their defaults."""


@dataclass(frozen=True)
class Cluster:
    """What a test needs to know of it.

    Attributes:
        address: HOST:PORT, for `RAY_ADDRESS`.
        jobs_address: the URL that jobs are submitted to.
        pid: of the process that all of the cluster's descend from.
        metrics_address: the URL at which Prometheus asks.
    """

    address: str
    jobs_address: str
    pid: int
    metrics_address: str

    def metrics(self) -> str:
        """What Ray tells Prometheus, in its text format."""
        return httpx.get(f"{self.metrics_address}/metrics", timeout=60).text


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


@contextlib.contextmanager
def started(
    num_cpus: int = NUM_CPUS, autoscaler: str | None = None, object_store_bytes: int = 500_000_000
) -> Iterator[Cluster]:
    """The cluster; ended with every process that descends from it, and no other.

    Args:
        num_cpus: of its head.
        autoscaler: v1 or v2, Ray's own, which starts up to two machines of four CPUs here.
        object_store_bytes: of its head; what does not fit goes to a disk.
    """
    folder = tempfile.mkdtemp(prefix="rr", dir="/tmp")  # socket paths must stay short
    names = ["port", "dashboard-port", "ray-client-server-port", *PORTS_OF_A_NODE]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        # Of the drivers, too: those of other processes inherit them.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        # Ray's workers give way to everything else by default, which on a busy machine is for ever.
        patch.setenv("RAY_worker_niceness", "0")
        # A process that ends takes with it what it has counted since.
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        options, environment = [], {}
        if autoscaler:
            options = ["--autoscaling-config", _cloud(Path(folder), ports["port"])]
            environment = {
                "RAY_FAKE_CLUSTER": "1",
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
                "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
                "RAY_NODE_TYPE_NAME": "ray.head.default",
                "RAY_enable_autoscaler_v2": str(int(autoscaler == "v2")),
                "AUTOSCALER_METRIC_PORT": str(free_ports(1)[0]),
            }
        head = subprocess.Popen(
            [
                *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
                *("--num-cpus", str(num_cpus), "--num-gpus", str(NUM_GPUS)),
                *("--temp-dir", folder, "--dashboard-host", "127.0.0.1"),
                *("--node-ip-address", "127.0.0.1"),
                *("--object-store-memory", str(object_store_bytes)),
                *(f"--{name}={port}" for name, port in ports.items()),
                *options,
            ],
            env={
                **os.environ,
                "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(NUM_GPUS))),
                "PYTHONPATH": os.pathsep.join([str(HELPERS), str(ROOT)]),
                "PYTHONUNBUFFERED": "1",
                # As docs/serving.md has it for a cluster.
                "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "reasonray.serving.guard:middlewares",
                **environment,
            },
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            _wait_for(head)
            yield Cluster(
                address=f"127.0.0.1:{ports['port']}",
                jobs_address=f"http://127.0.0.1:{ports['dashboard-port']}",
                pid=head.pid,
                metrics_address=f"http://127.0.0.1:{ports['metrics-export-port']}",
            )
        finally:
            _end(head)
            shutil.rmtree(folder, ignore_errors=True)


HEAD_ID = f"{'f' * 51}00000"

_CLOUD = """
cluster_name: here
max_workers: 2
head_node_type: ray.head.default
idle_timeout_minutes: 5
upscaling_speed: 100
auth: {}
file_mounts: {}
cluster_synced_files: []
initialization_commands: []
setup_commands: []
head_setup_commands: []
worker_setup_commands: []
head_start_ray_commands: []
worker_start_ray_commands: []
provider:
  type: external
  # Ray's own for tests, by a way that needs no file that its wheel leaves out.
  module: ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider
  head_node_id: HEAD_ID
  gcs_address: ADDRESS
  disable_node_updaters: true
  disable_launch_config_check: true
available_node_types:
  ray.head.default: {resources: {CPU: 1}, max_workers: 0, node_config: {}}
  worker: {resources: {CPU: 4}, max_workers: 2, node_config: {}}
"""


def _cloud(folder: Path, port: int) -> str:
    """What `ray up` would leave: a configuration of a cloud that starts its machines here."""
    path = folder / "cloud.yaml"
    text = _CLOUD.replace("HEAD_ID", HEAD_ID).replace("ADDRESS", f"127.0.0.1:{port}")
    path.write_text(text)
    return str(path)


@contextlib.contextmanager
def joined(cluster: Cluster, num_cpus: int, labels: str = "") -> Iterator[int]:
    """One more machine of the cluster, on this one; it leaves at the end of the block.

    Args:
        cluster: that it joins.
        num_cpus: that it has.
        labels: NAME=VALUE of each, with commas between.

    Yields:
        The process that all of the machine's descend from.
    """
    ports = dict(zip(PORTS_OF_A_NODE, free_ports(len(PORTS_OF_A_NODE)), strict=True))
    node = subprocess.Popen(
        [
            *(str(Path(sys.executable).parent / "ray"), "start", "--block"),
            *("--address", cluster.address, "--num-cpus", str(num_cpus)),
            *("--node-ip-address", "127.0.0.1", "--object-store-memory", "200000000"),
            *("--labels", labels),
            *(f"--{name}={port}" for name, port in ports.items()),
        ],
        env={
            **os.environ,
            "RAY_AUTH_MODE": "disabled",
            "PYTHONPATH": os.pathsep.join([str(HELPERS), str(ROOT)]),
        },
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _wait_for(node)
        yield node.pid
    finally:
        _end(node)


def _wait_for(head: "subprocess.Popen[str]") -> None:
    assert head.stdout is not None
    lines = []
    for line in head.stdout:
        lines.append(line)
        if "Ray runtime started" in line:
            return
    raise RuntimeError(f"Ray did not start:\n{''.join(lines)}")


def _end(head: "subprocess.Popen[str]") -> None:
    # Not its process group: workers have groups of their own, and one may outlive its raylet.
    everybody = psutil.Process(head.pid).children(recursive=True)
    head.terminate()
    try:
        head.wait(timeout=10)
    except subprocess.TimeoutExpired:
        head.kill()
    for process in everybody:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    head.communicate()  # the pipe, which its children held open


def kill(parent: int, name: str) -> None:
    """SIGKILL to each process below `parent` whose command line has this name."""
    victims = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()):
                victims.append(process)
    assert victims
    for victim in victims:
        victim.send_signal(signal.SIGKILL)

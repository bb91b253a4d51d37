"""`reasonray serve` as a process, with a Ray of its own, for the tests of a module."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from one_cluster import HELPERS, ROOT, free_ports

from reasonray.serving.keys import new_key

COMMAND = "import sys; from reasonray.cli.main import main; main()"


@dataclass
class Served:
    """A service that is ready.

    Attributes:
        port: on 127.0.0.1.
        key: the one that it knows.
        process: the command; Ray's processes descend from it.
        folder: Ray's, with its logs.
        lines: what the command has said.
    """

    port: int
    key: str
    process: "subprocess.Popen[str]"
    folder: Path
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processes(self, title: str) -> list[psutil.Process]:
        """Those of Ray with this in their title, such as `ServeReplica:reasonray:Ingress`."""
        matches = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if title in " ".join(process.cmdline()):
                    matches.append(process)
        return matches

    def metrics(self) -> str:
        """What Ray tells Prometheus, in its text format."""
        [port] = self.folder.rglob("metrics_export_port_*")
        return httpx.get(f"http://127.0.0.1:{port.read_text()}/metrics", timeout=60).text

    def stop(self) -> int:
        """Ctrl-C, which a terminal sends to the whole group; its exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def served(editor: Path, *options: str) -> Iterator[Served]:
    """The command with one editor and one key; ended with all that descends from it."""
    folder = Path(tempfile.mkdtemp(prefix="rs", dir="/tmp"))  # socket paths must stay short
    keys, [port] = folder / "keys", free_ports(1)
    key = new_key(keys, "tester")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HELPERS), str(ROOT)]),
        "PYTHONUNBUFFERED": "1",
        "RAY_TMPDIR": str(folder),
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    arguments = [str(editor), "--port", str(port), "--keys", str(keys), *options]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "serve", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    service = Served(port, key, process, folder)
    everybody: list[psutil.Process] = []
    try:
        _read_until_ready(service)
        everybody = psutil.Process(process.pid).children(recursive=True)
        yield service
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            everybody += psutil.Process(process.pid).children(recursive=True)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
        for each in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def _read_until_ready(service: Served) -> None:
    assert service.process.stdout is not None
    for line in service.process.stdout:
        service.lines.append(line)
        if line.startswith("ready: "):
            break
    else:
        raise RuntimeError(f"it did not start:\n{''.join(service.lines)}")
    stream = service.process.stdout

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed
            service.lines.extend(stream)

    threading.Thread(target=read, daemon=True).start()

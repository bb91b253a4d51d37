"""`reasonray study serve` as a process that can be killed and started again."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]
COMMAND = "import sys; from reasonray.cli.main import main; main()"


class ServedStudy:
    """A study behind one port of 127.0.0.1.

    Attributes:
        links: of the workers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, 0
        self._process: subprocess.Popen[str] | None = None
        self.links: list[str] = []

    def start(self) -> None:
        """Serve, at the port that it had before."""
        arguments = ["study", "serve", str(self._folder), "--port", str(self._port)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        else:
            raise RuntimeError(f"it did not start:\n{''.join(lines)}")
        self.links = [line.split()[0] for line in lines if line.startswith("http://")]
        self._port = int(self.links[0].split(":")[2].partition("/")[0])

    def kill(self) -> None:
        """As a machine does that runs out of memory."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As Ctrl-C does; its exit code."""
        return self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return code


@contextlib.contextmanager
def served(folder: Path) -> Iterator[ServedStudy]:
    """Started, and ended afterwards."""
    service = ServedStudy(folder)
    service.start()
    try:
        yield service
    finally:
        service.kill()

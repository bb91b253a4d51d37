"""A real S3 server on this machine: `moto_server`, in a process of its own."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_cluster import free_ports

BUCKET = "bucket"


@contextlib.contextmanager
def started() -> Iterator[str]:
    """The server's address, with an empty bucket; the environment leads to it, processes' too."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", url)
            patch.setenv("AWS_ACCESS_KEY_ID", "key")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            for name in ("NO_PROXY", "no_proxy"):
                patch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))))
            _make_bucket(url, server)
            yield url
    finally:
        server.terminate()
        server.wait()


def _make_bucket(url: str, server: "subprocess.Popen[bytes]") -> None:
    request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(request, timeout=60).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return

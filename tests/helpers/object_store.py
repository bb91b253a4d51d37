"""A real S3 server on this machine: `moto_server`, in a process of its own, behind a door.

The door hands requests on, or answers 503, as a store does that has too much to do.
"""

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from one_cluster import free_ports

BUCKET = "bucket"

_BUSY = b"<Error><Code>ServiceUnavailable</Code><Message>Come back later.</Message></Error>"


class Store:
    """The server as its clients see it.

    Attributes:
        url: of its door.
        num_refused: requests that were answered with 503.
    """

    def __init__(self, port: int) -> None:
        self.num_refused = 0
        self._is_away = False
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                length = int(self.headers.get("content-length", 0))
                content = self.rfile.read(length)
                if store._is_away:
                    store.num_refused += 1
                    self.answer(503, [], _BUSY)
                    return
                server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                server.request(self.command, self.path, content, dict(self.headers))
                reply = server.getresponse()
                body = reply.read()
                self.answer(reply.status, reply.getheaders(), body)
                server.close()

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                length = str(len(body))
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = value if self.command == "HEAD" else length
                    elif name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        class Door(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *args: object) -> None:
                """Clients that are killed are what is tested."""

        self._door = Door(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._door.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._door.server_port}"

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Answer every request with 503."""
        self._is_away = True
        try:
            yield
        finally:
            self._is_away = False

    def close(self) -> None:
        self._door.shutdown()
        self._thread.join()
        self._door.server_close()


@contextlib.contextmanager
def started() -> Iterator[Store]:
    """With an empty bucket; this process's environment, and so its children's, leads to it.

    What is copied from it lies in a folder that goes at the end.
    """
    [port] = free_ports(1)
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = Store(port)
    try:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as cache:
            patch.setenv("REASONRAY_CACHE", cache)
            patch.setenv("AWS_ENDPOINT_URL", store.url)
            patch.setenv("AWS_ACCESS_KEY_ID", "key")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            for name in ("NO_PROXY", "no_proxy"):
                patch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))))
            _make_bucket(f"http://127.0.0.1:{port}", server)
            yield store
    finally:
        store.close()
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

"""A study that is served: `reasonray study serve`."""

import logging
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from reasonray.core.console import say
from reasonray.core.errors import UserError
from reasonray.evaluation.study.service import make_app
from reasonray.evaluation.study.store import Store

_ANY_ADDRESS = ("0.0.0.0", "::")


def run(folder: Path, host: str, port: int, url: str | None) -> None:
    """Serve a study until Ctrl-C or SIGTERM; print each worker's link on the standard output.

    Args:
        folder: of the study.
        host: an address of this machine.
        port: a free one; 0: any.
        url: what the links begin with; None: host and port.

    Raises:
        UserError: no study is in the folder, or the port is taken.
    """
    store = Store(folder)
    with _listening(host, port) as listening:
        logging.basicConfig(format="%(message)s")
        config = uvicorn.Config(
            make_app(store),
            # What is logged of a request is its address, and that is a worker's key.
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)

        def end(_number: int, _frame: FrameType | None) -> None:
            # An exception can get lost in what runs at this moment.
            server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        name = socket.gethostname() if host in _ANY_ADDRESS else host
        shown = f"[{name}]" if ":" in name else name
        address = url or f"http://{shown}:{listening.getsockname()[1]}"
        for worker in store.workers():
            print(
                f"{address.rstrip('/')}/{worker.token}/  worker {worker.number}, "
                f"{worker.num_answered} of {worker.num_tasks} answered",
                flush=True,
            )
        say("each link is its worker's own; Ctrl-C ends the service, the same command continues it")
        server.run(sockets=[listening])
        say("stopped")


def _listening(host: str, port: int) -> socket.socket:
    """A socket at which connections wait until they are answered."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UserError(
            f"--host {host} --port {port}: {error.strerror or error}; give another --port"
        ) from error
    return listening

"""A service on this machine: `reasonray serve`."""

import ipaddress
import json
import logging
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from types import FrameType

from ray import serve

from reasonray import cluster
from reasonray.core.console import say
from reasonray.core.errors import RunError, UserError
from reasonray.core.place import Place, place, reached
from reasonray.serving import guard
from reasonray.serving.app import build
from reasonray.serving.config import ServedModel, ServingConfig

_NAME = "reasonray"
_GUARD_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"

# Serve's own limit on a request, beyond the service's: it answers in words of its own.
_BACKSTOP_S = 30.0

# The two ingress processes, and one more where a rolling update begins.
_INGRESS_CPUS = 1.0


def run(config: ServingConfig, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM; say when it is ready and where.

    Args:
        config: of the service; a model without `num_gpus` gets its share of this machine's.
        host: an address of this machine; without keys a loopback one.
        port: a free one.

    Raises:
        UserError: a folder is no editor, the port is taken, or others would be served without key.
        RunError: it did not start.
    """
    _check_address(config, host, port)
    for name, model in config.models.items():
        check_editor(name, place(model.editor, f"model {name}"))
    os.environ[_GUARD_VARIABLE] = guard.IMPORT_PATH
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    cpus = sum(model.max_replicas * model.num_cpus for model in config.models.values())
    say(f"starting with {', '.join(config.models)}")
    with cluster.own(_INGRESS_CPUS + 2 * cpus, at_end=serve.shutdown) as num_gpus:
        options = {
            "host": host,
            "port": port,
            "request_timeout_s": config.deadline_s + _BACKSTOP_S,
        }
        # After Ray has set its own. SIGINT, too: shells have background processes ignore it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        try:
            serve.start(http_options=options)
            serve.run(build(_with_gpus(config, num_gpus)), name=_NAME)
            _wait_until_ready(host, port)
            address = f"http://{_in_url(host)}:{port}"
            say(f"ready: {address} (page), {address}/v1 for the openai client; Ctrl-C ends it")
            while True:
                time.sleep(1)
        except RuntimeError as error:  # Serve's, of a deployment that failed
            raise RunError(f"the service did not start: {_reason(error)}", again=False) from error
        except KeyboardInterrupt:
            pass
        finally:
            say("stopping")


def check_editor(name: str, folder: Place) -> None:
    """Look whether a folder holds an editor, without loading it.

    Raises:
        UserError: it does not, or a store does not let us see.
    """
    index = folder / "model_index.json"
    try:
        with reached(folder, f"model {name}"):
            content = index.read_text(encoding="utf-8") if index.exists() else "{}"
        kind = json.loads(content)["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if kind != "ReasonEditPipeline":
        what = f"holds a {kind}" if isinstance(kind, str) else "has no model_index.json of one"
        raise UserError(
            f"{folder} (model {name}): not an editor's folder, it {what}; "
            "`reasonray train … --output DIR` makes DIR/editor"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_address(config: ServingConfig, host: str, port: int) -> None:
    if config.keys is None and not is_loopback(host):
        raise UserError(
            f"--host {host}: others could reach the service without a key; make one with "
            "`reasonray keys FILE` and give --keys FILE, or leave --host at 127.0.0.1"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: {error.strerror or error}; give another --port"
        ) from error


def _with_gpus(config: ServingConfig, num_gpus: float) -> ServingConfig:
    """The GPUs shared out among the processes of models that ask for none, at most one to each."""
    plain = [name for name, model in config.models.items() if not model.num_gpus]
    if not num_gpus or not plain:
        return config
    share = min(1.0, num_gpus / sum(config.models[name].max_replicas for name in plain))
    models: Mapping[str, ServedModel] = {
        name: model.model_copy(update={"num_gpus": share}) if name in plain else model
        for name, model in config.models.items()
    }
    return config.model_copy(update={"models": models})


def _wait_until_ready(host: str, port: int) -> None:
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://{_in_url(own)}:{port}/readyz"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reason(error: RuntimeError) -> str:
    """The last line of what Serve says, which is the exception's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason is known; see Ray's logs in /tmp/ray"

"""The deployment that clients' requests reach: the API, with editors in processes of their own."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray.exceptions
from fastapi import FastAPI
from ray import serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from reasonray.serving.api import make_app
from reasonray.serving.config import ServingConfig
from reasonray.serving.errors import busy, internal, lost, starting
from reasonray.serving.keys import Doorkeeper, read_keys
from reasonray.serving.task import EditTask, Event, Facts, FinishedFile

_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.NodeDiedError,
)

_ATTEMPTS = 2

_READY_S = 2.0

# An editor that has just answered somebody is ready, also when a question more would have to wait.
_FRESH_S = 5.0


class RemoteEditors:
    """Editors behind Serve's handles; an `api.Editors`.

    Args:
        handles: name -> its deployment.
        idle: names of those that may have no process while nobody asks.
    """

    def __init__(self, handles: Mapping[str, DeploymentHandle], idle: Sequence[str] = ()) -> None:
        self._handles, self._idle = dict(handles), set(idle)
        self._facts: dict[str, Facts] = {}
        self._answered = dict.fromkeys(handles, -math.inf)
        self._seconds = 1.0  # from an edit's sending to its end, of the last ones

    @property
    def names(self) -> Sequence[str]:
        """The served models."""
        return list(self._handles)

    async def facts(self, name: str) -> Facts:
        """What the editor said of itself when it was first asked."""
        if name not in self._facts:
            try:
                self._facts[name] = await self._handles[name].facts.remote()
            except Exception as error:
                raise self._told(error) from error
            self._answered[name] = time.monotonic()
        return self._facts[name]

    async def ready(self) -> bool:
        """Whether every editor that has to run has answered lately, or does so now."""
        return all([await self._is_ready(each) for each in self._handles if each not in self._idle])

    async def edit(self, name: str, task: EditTask) -> AsyncGenerator[Event, None]:
        """As `api.Editors.edit`; if the editor's process dies, another begins anew, once.

        The seed being the same, it makes the same partial pictures; those that were shown are not
        shown again.
        """
        num_shown = 0
        for _ in range(_ATTEMPTS):
            try:
                async with contextlib.aclosing(self._attempt(name, task)) as events:
                    async for event in events:
                        if isinstance(event, FinishedFile):
                            yield event
                            return
                        if event.index >= num_shown:
                            num_shown = event.index + 1
                            yield event
            except _LOST:
                continue
            except Exception as error:
                raise self._told(error) from error
            raise internal()
        raise lost()

    async def _attempt(self, name: str, task: EditTask) -> AsyncGenerator[Event, None]:
        begin = time.monotonic()
        response: Any = self._handles[name].options(stream=True).edit.remote(task)
        try:
            async for event in response:
                self._answered[name] = time.monotonic()
                if isinstance(event, FinishedFile):
                    self._seconds += 0.2 * (time.monotonic() - begin - self._seconds)
                yield event
        finally:
            # It raises anew what the call has raised.
            with contextlib.suppress(Exception):
                response.cancel()

    async def _is_ready(self, name: str) -> bool:
        if time.monotonic() - self._answered[name] < _FRESH_S:
            return True
        response: Any = self._handles[name].ping.remote()
        try:
            async with asyncio.timeout(_READY_S):
                await response
        except BackPressureError:
            pass  # it is so busy that others are turned away
        except Exception:  # noqa: BLE001  whatever it is, it is not ready
            with contextlib.suppress(Exception):
                response.cancel()
            return False
        self._answered[name] = time.monotonic()
        return True

    def _told(self, error: Exception) -> Exception:
        """What a client is told of an error on the way to an editor, or of an editor's own."""
        if isinstance(error, ray.exceptions.RayTaskError):
            error = error.cause
        if isinstance(error, BackPressureError):
            # By Little's law, half of those that wait now are done by then.
            seconds = min(30, max(1, math.ceil(self._seconds / 2)))
            return busy("All editors are busy, and as many requests wait as may.", seconds)
        if isinstance(error, DeploymentUnavailableError):
            return starting()
        if isinstance(error, _LOST):
            return lost()
        return error


@serve.deployment(
    num_replicas=2,
    max_ongoing_requests=200,
    max_queued_requests=200,
    # A rolling update starts the new one before it ends the old.
    max_surge_percent=100,
    ray_actor_options={"num_cpus": 0.1},
    logging_config=LoggingConfig(enable_access_log=False),
)
@serve.ingress()
class Ingress:
    """One of the processes that speak with clients.

    Args:
        handles: name -> the editor's deployment.
        config: of the service.
    """

    async def __init__(  # type: ignore[misc]  # as Serve allows
        self, handles: dict[str, DeploymentHandle], config: ServingConfig
    ) -> None:
        self.config = config
        # Read here: what the builder knows is kept by Ray.
        keys = None if config.keys is None else read_keys(Path(config.keys))
        self.doorkeeper = Doorkeeper(keys, config.requests_per_minute)
        idle = [name for name, model in config.models.items() if not model.min_replicas]
        self.editors = RemoteEditors(handles, idle)
        # Until a handle knows a process, a burst of requests would be turned away.
        for name in handles:
            await self.editors.facts(name)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application, made here: pickled, it would bring what this process alone may know."""
        return make_app(self.editors, self.doorkeeper, self.config)

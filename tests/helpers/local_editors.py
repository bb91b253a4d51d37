"""The API in front of editors in this process: all but Ray is real."""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

from local_server import serving

from reasonray.serving.api import make_app
from reasonray.serving.config import ServingConfig
from reasonray.serving.guard import Guard
from reasonray.serving.keys import Doorkeeper, read_keys
from reasonray.serving.task import EditTask, Event, Facts


class LocalEditors:
    """An `api.Editors` of `Editor`s that are called directly.

    Attributes:
        closed: so many edits were given up before their end.
    """

    def __init__(self, editors: dict[str, Any]) -> None:
        self.editors, self.closed = editors, 0

    @property
    def names(self) -> Sequence[str]:
        return list(self.editors)

    async def facts(self, name: str) -> Facts:
        return await self.editors[name].facts()  # type: ignore[no-any-return]

    async def edit(self, name: str, task: EditTask) -> AsyncGenerator[Event, None]:
        try:
            async with contextlib.aclosing(self.editors[name].edit(task)) as events:
                async for event in events:
                    yield event
        except BaseException:
            self.closed += 1
            raise

    async def ready(self) -> bool:
        return True


@contextlib.contextmanager
def api(editors: Any, config: ServingConfig) -> Iterator[int]:
    """The port of the application behind the guard."""
    keys = None if config.keys is None else read_keys(Path(config.keys))
    doorkeeper = Doorkeeper(keys, config.requests_per_minute)
    with serving(Guard(make_app(editors, doorkeeper, config))) as port:
        yield port

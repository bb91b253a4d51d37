"""An edit that is asked of an engine, and how whoever waits for it is told of what comes of it.

Neither torch nor Ray: one thread tells, others and any asyncio loop listen.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from reasonray.core.errors import ReasonrayError


class EditFailed(ReasonrayError):  # noqa: N818  an outcome that is waited for
    """The model could not make this edit; others are not concerned."""


class DeadlineExceeded(ReasonrayError):  # noqa: N818  an outcome that is waited for
    """An edit was not finished when its time was up."""


class Cancelled(ReasonrayError):  # noqa: N818  an outcome that is waited for
    """Whoever asked for an edit has taken it back."""


@dataclass(frozen=True)
class Edit:
    """One picture to make; several of one request are as many edits.

    Attributes:
        image: RGB, at the size that is edited: its sides are multiples of the engine's `factor`.
        instruction: what to change.
        seed: 0 to 2**64 - 1; with the same settings it gives the same picture.
        num_inference_steps: denoising steps, from 1.
        guidance_scale, image_guidance_scale: as `ReasonEditPipeline`'s.
        mask: bool HW of the image, True where it may change; None: everywhere.
        num_partials: pictures wanted on the way, 0 to 3; of fewer steps come fewer.
        deadline: on `time.monotonic`'s clock; what is not finished then is given up.
    """

    image: PIL.Image.Image
    instruction: str
    seed: int
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    mask: NDArray[np.bool_] | None = None
    num_partials: int = 0
    deadline: float = math.inf


@dataclass(frozen=True)
class Partial:
    """What the edit would be as far as it is known after some steps: RGB, of the source's size."""

    image: PIL.Image.Image
    index: int
    """From 0."""


@dataclass(frozen=True)
class Finished:
    """The edit: RGB, of the source's size."""

    image: PIL.Image.Image


class Job:
    """An edit on its way. All methods may be called from any thread."""

    def __init__(self, edit: Edit) -> None:
        self.edit = edit
        self.size: tuple[int, int] = edit.image.size
        self.submitted = time.monotonic()
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._events: list[Partial | Finished] = []
        self._error: Exception | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Take the edit back: it leaves before the model's next step. Too late it has no effect."""
        self._cancelled = True

    def is_over(self) -> bool:
        """Whether the edit is finished or has failed."""
        return self._error is not None or isinstance(self._last(), Finished)

    def objection(self) -> Exception | None:
        """Why it should not go on, if so."""
        if self._cancelled:
            return Cancelled("the edit was cancelled")
        if time.monotonic() > self.edit.deadline:
            waited = time.monotonic() - self.submitted
            return DeadlineExceeded(f"the edit was not finished after {waited:.1f} s")
        return None

    def tell(self, event: Partial | Finished | Exception) -> None:
        """Of the engine: what happened. Nothing more is told after the end."""
        with self._changed:
            if self.is_over():
                return
            if isinstance(event, Exception):
                self._error = event
            else:
                self._events.append(event)
            self._changed.notify_all()
            for wake in self._listeners:
                wake()

    def result(self, timeout: float | None = None) -> PIL.Image.Image:
        """Wait for the edit.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            EditFailed, DeadlineExceeded, Cancelled: there is none.
            TimeoutError: not yet; the job goes on.
        """
        with self._changed:
            if not self._changed.wait_for(self.is_over, timeout):
                raise TimeoutError(f"no edit after {timeout} s")
            if self._error is not None:
                raise self._error
            [last] = self._events[-1:]
        return last.image

    async def events(self) -> AsyncIterator[Partial | Finished]:
        """Partial pictures as they come, then the finished one.

        Whoever stops listening calls `cancel`, if the edit is to end with it.

        Raises:
            EditFailed, DeadlineExceeded, Cancelled: there will be no more.
        """
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(news.set)

        with self._changed:
            self._listeners.append(wake)
        num_seen = 0
        try:
            while True:
                news.clear()
                with self._changed:
                    fresh, error = self._events[num_seen:], self._error
                for event in fresh:
                    num_seen += 1
                    yield event
                    if isinstance(event, Finished):
                        return
                if error is not None:
                    raise error
                if not fresh:
                    await news.wait()
        finally:
            with self._changed:
                self._listeners.remove(wake)

    def _last(self) -> Partial | Finished | None:
        return self._events[-1] if self._events else None

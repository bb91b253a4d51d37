"""The editor, step by step: edits join and leave the batch between two denoising steps.

One thread owns the model. Each edit has a scheduler, a generator, guidances and a number of steps
of its own, so that it comes out as it would alone, whatever joins or leaves. Those of one batch
have one size. Plain Python and torch: no Ray, no HTTP.
"""

import logging
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Literal, TypeVar

import numpy as np
import PIL.Image
import torch

from reasonray.core.memory import free_memory, is_out_of_memory
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.editor.sampling import Condition
from reasonray.serving.jobs import (
    Cancelled,
    DeadlineExceeded,
    Edit,
    EditFailed,
    Finished,
    Job,
    Partial,
)
from reasonray.serving.samples import Sample, decoded, predict

__all__ = [
    "Cancelled",
    "DeadlineExceeded",
    "Edit",
    "EditFailed",
    "Engine",
    "Finished",
    "Job",
    "Partial",
]

log = logging.getLogger(__name__)

Figure = Literal["queue_seconds", "encode_seconds", "step_seconds", "batch_size", "decode_seconds"]
"""What an engine measures: an edit's time in the queue, that of its encoding, a step's, how many
edits share it, the time of a picture's decoding."""

IDLE_SECONDS = 1.0
"""How often a thread without work shows that it lives."""

Result = TypeVar("Result")


class Engine:
    """Makes edits, several at a time.

    Args:
        pipeline: the editor; nothing else may use it meanwhile.
        max_batch: how many edits share a step at most: a number, or by the pictures' longest side
            in pixels: {512: 8, 768: 4} lets 8 of up to 512 share one and 4 of up to 768; those
            beyond go alone. What does not fit into the memory is halved by itself.
        observe: is told each figure, in seconds or edits, on the model's thread.
    """

    def __init__(
        self,
        pipeline: ReasonEditPipeline,
        *,
        max_batch: int | Mapping[int, int] = 8,
        observe: Callable[[Figure, float], None] = lambda figure, value: None,
    ) -> None:
        self.pipeline = pipeline
        self.factor: int = pipeline.vae_scale_factor
        """The sides of a picture are multiples of it, in pixels."""
        self._last_steps: deque[float] = deque(maxlen=16)
        self._max_batch: dict[float, int] = (
            {math.inf: max_batch}
            if isinstance(max_batch, int)
            else {float(side): count for side, count in max_batch.items()}
        )
        self._fits: dict[tuple[int, int], int] = {}
        """By size: how many fitted into the memory, once more did not."""
        self._observe = observe
        self._null: Condition | None = None
        self._news = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._entering: deque[Job] = deque()
        """Those that the batch has room for, not yet encoded."""
        self._running: list[tuple[Job, Sample]] = []
        self._closed = False
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="editor", daemon=True)
        self._thread.start()

    def submit(self, edit: Edit) -> Job:
        """Put an edit into the queue.

        Raises:
            ValueError: its picture's or mask's size is none that can be edited.
            RuntimeError: the engine is closed.
        """
        self._check(edit)
        job = Job(edit)
        with self._news:
            if self._closed or not self._thread.is_alive():
                raise RuntimeError("the engine is closed")
            self._waiting.append(job)
            self._news.notify_all()
        return job

    def warm_up(self, size: tuple[int, int]) -> None:
        """Do with a full batch of a size what edits will need, before any waits for it.

        What a first call takes longer for is done then, and a batch that does not fit is known.

        Args:
            size: width and height, pixels.

        Raises:
            EditFailed: the model cannot edit.
        """
        picture = PIL.Image.new("RGB", size, (127, 127, 127))
        mask = np.ones((size[1], size[0]), np.bool_)
        count = self._limit(size)
        # They enter one after another: the last must meet the first.
        edit = Edit(picture, "", 0, count + 1, 7.5, 1.5, mask=mask, num_partials=1)
        for job in [self.submit(edit) for _ in range(count)]:
            job.result()

    @property
    def num_waiting(self) -> int:
        """Edits that have not begun."""
        return len(self._waiting) + len(self._entering)

    @property
    def num_running(self) -> int:
        """Edits that have begun."""
        return len(self._running)

    @property
    def step_seconds(self) -> float:
        """Of a step, the last ones' median; 0 before the first."""
        return median(self._last_steps) if self._last_steps else 0.0

    @property
    def silent_seconds(self) -> float:
        """Since the model's thread showed last that it lives; infinite once it has ended."""
        return time.monotonic() - self._beat if self._thread.is_alive() else math.inf

    def close(self, *, wait: bool = True) -> None:
        """End after the step that is being done; edits that are not finished fail.

        Args:
            wait: until that is so.
        """
        with self._news:
            self._closed = True
            self._news.notify_all()
        if wait:
            self._thread.join()

    def _check(self, edit: Edit) -> None:
        width, height = edit.image.size
        if edit.image.mode != "RGB":
            raise ValueError(f"a picture of mode {edit.image.mode}: it must be RGB")
        if width % self.factor or height % self.factor:
            raise ValueError(
                f"a picture of {width}x{height}: its sides must be multiples of {self.factor}"
            )
        if edit.mask is not None and edit.mask.shape != (height, width):
            raise ValueError(f"a mask of {edit.mask.shape} (HW) for a picture {width}x{height}")

    def _limit(self, size: tuple[int, int]) -> int:
        sides = [side for side in self._max_batch if side >= max(size)]
        limit = self._max_batch[min(sides)] if sides else 1
        return min(limit, self._fits.get(size, limit))

    def _run(self) -> None:
        """The model's thread."""
        error = EditFailed("the engine is closed")
        try:
            with torch.no_grad():
                while self._has_work():
                    self._turn()
        except Exception as cause:  # noqa: BLE001  of the device or ours: this thread is of no use
            _report("the engine", cause)
            error = EditFailed("the model's device or engine has failed")
        with self._news:
            self._closed = True
            jobs = [job for job, _ in self._running] + [*self._entering, *self._waiting]
        for job in jobs:
            job.tell(error)

    def _has_work(self) -> bool:
        with self._news:
            while not self._closed:
                self._beat = time.monotonic()
                if self._waiting or self._entering or self._running:
                    return True
                self._news.wait(IDLE_SECONDS)
        return False

    def _turn(self) -> None:
        """What there is to do between two steps, and the next."""
        self._drop()
        self._choose()
        started = time.monotonic()
        while self._entering and len(self._running) < self._limit(self._entering[0].size):
            self._encode()
            self._beat = time.monotonic()
            # Those that run already wait for others about as long as for a step.
            if self._running and self._beat - started > self.step_seconds:
                break
        if self._running:
            self._step()

    def _drop(self) -> None:
        """Without those that are cancelled or late."""
        self._running = [pair for pair in self._running if not _ended(pair[0])]
        with self._news:
            self._entering = deque(job for job in self._entering if not _ended(job))
            self._waiting = deque(job for job in self._waiting if not _ended(job))

    def _choose(self) -> None:
        """Let edits in: of the running batch's size, or of the oldest's, if none runs.

        Into a running batch none comes past an older one of another size, which would else wait for
        ever; a new batch is filled with all that it is to have at once.
        """
        with self._news:
            inside = [*(job for job, _ in self._running), *self._entering]
            if not inside and not self._waiting:
                return
            size = inside[0].size if inside else self._waiting[0].size
            room = self._limit(size) - len(inside)
            left: deque[Job] = deque()
            for job in self._waiting:
                if room > 0 and job.size == size and not (inside and left):
                    self._entering.append(job)
                    room -= 1
                else:
                    left.append(job)
            self._waiting = left

    def _encode(self) -> None:
        """The next of those that enter, which is among them until it runs or is over."""
        job = self._entering[0]
        started = time.monotonic()
        if _ended(job):
            self._entering.popleft()
            return
        sample = self._attempt("encoding", lambda: self._sample(job.edit))
        if isinstance(sample, _Failure):
            if sample.is_out_of_memory and self._running:
                self._remember(job.size, len(self._running))
                return
            job.tell(EditFailed(sample.reason))
        else:
            self._observe("queue_seconds", started - job.submitted)
            self._observe("encode_seconds", time.monotonic() - started)
            self._running.append((job, sample))
        self._entering.popleft()

    def _sample(self, edit: Edit) -> Sample:
        self._null_condition()
        return Sample.of(self.pipeline, edit)

    def _null_condition(self) -> Condition:
        if self._null is None:
            self._null = self.pipeline.null_condition()
        return self._null

    def _step(self) -> None:
        batch = self._running[: self._limit(self._running[0][0].size)]
        started = time.monotonic()
        self._advance(batch)
        self._beat = time.monotonic()
        self._last_steps.append(self._beat - started)
        self._observe("step_seconds", self._beat - started)
        self._observe("batch_size", len(batch))
        for job, sample in batch:
            if sample.is_done or sample.heading is not None:
                self._show(job, sample)
                self._beat = time.monotonic()
        self._running = [pair for pair in self._running if not pair[0].is_over()]

    def _advance(self, batch: list[tuple[Job, Sample]]) -> None:
        """Take edits one step further; those that cannot be end."""
        samples = [sample for _, sample in batch]
        predicted = self._attempt(
            "a step", lambda: predict(self.pipeline, samples, self._null_condition())
        )
        if isinstance(predicted, _Failure):
            if len(batch) == 1:
                batch[0][0].tell(EditFailed(predicted.reason))
            elif predicted.is_out_of_memory:
                # Nothing is lost: what is beyond the limit waits until there is room.
                self._remember(batch[0][0].size, len(batch) // 2)
            else:
                for pair in batch:
                    self._advance([pair])
            return
        factor = self.pipeline.vae.config.scaling_factor
        advanced = []
        for (job, sample), inputs in zip(batch, predicted, strict=True):
            failure = self._attempt("a step", partial(sample.advance, *inputs, factor))
            if failure is None:
                advanced.append((job, sample))
            else:
                job.tell(EditFailed(failure.reason))
        if not advanced:
            return
        # That all are read at once makes this wait for the GPU once, and bounds how far ahead of it
        # this thread can be.
        finite = torch.stack([sample.latents.isfinite().all() for _, sample in advanced]).tolist()
        for (job, _), is_finite in zip(advanced, finite, strict=True):
            if not is_finite:
                job.tell(EditFailed("the model gave no numbers (NaN or infinite)"))

    def _show(self, job: Job, sample: Sample) -> None:
        """Decode what an edit is, or what it heads for."""
        if job.is_over():
            return
        started = time.monotonic()
        image = self._attempt("decoding", lambda: decoded(self.pipeline, sample))
        if isinstance(image, _Failure):
            job.tell(EditFailed(image.reason))
            return
        self._observe("decode_seconds", time.monotonic() - started)
        job.tell(Finished(image) if sample.is_done else Partial(image, sample.num_shown - 1))

    def _attempt(self, what: str, action: Callable[[], Result]) -> "Result | _Failure":
        """Never an exception: its traceback would keep alive all that the action needed."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001  the edit ends with it
            failure = _Failure(f"{what} failed: {type(error).__name__}", is_out_of_memory(error))
            if not failure.is_out_of_memory:
                _report(what, error)
        if failure.is_out_of_memory:
            free_memory()
        elif self.pipeline.unet.device.type == "cuda":
            torch.cuda.synchronize()  # raises if the device is of no use any more
        return failure

    def _remember(self, size: tuple[int, int], count: int) -> None:
        self._fits[size] = count
        log.warning(
            "not enough memory for more: from now on %d edits of %dx%d at once (max_batch asks "
            "for more)", count, *size,
        )  # fmt: skip


@dataclass(frozen=True)
class _Failure:
    """What went wrong, in words that hold nothing of the edit."""

    reason: str
    is_out_of_memory: bool


def _ended(job: Job) -> bool:
    """Whether it is over, or is so now: cancelled or late."""
    objection = job.objection()
    if objection is not None:
        job.tell(objection)
    return job.is_over()


def _report(what: str, error: Exception) -> None:
    # Without the message: it may quote the instruction.
    lines = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s failed with %s\n%s", what, type(error).__name__, lines)

"""The deployment that holds an editor: tasks in, encoded pictures out.

The engine's thread computes; files are encoded in threads beside it, so that only they travel.
"""

import asyncio
import json
import math
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from ray import serve
from ray.serve import metrics
from ray.serve.schema import LoggingConfig
from transformers.utils.hub import cached_file

from reasonray.core.place import Place, written
from reasonray.core.place import place as stored
from reasonray.core.sections import ModelConfig
from reasonray.core.silence import silence
from reasonray.core.uris import is_local
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.models import weights
from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.engine import Engine, Figure
from reasonray.serving.errors import ApiError, internal, invalid, late
from reasonray.serving.jobs import DeadlineExceeded, Edit, EditFailed, Finished, Job
from reasonray.serving.task import (
    EditTask,
    Event,
    Facts,
    FinishedFile,
    Finisher,
    PartialFile,
    UnsafeError,
)

MAX_SILENCE_S = 120.0
"""Without a sign of the model's thread, after which the process is ended. No step takes so long."""

_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]


class Metrics:
    """What Prometheus is told; Serve adds deployment, replica and application."""

    def __init__(self) -> None:
        texts: dict[Figure, str] = {
            "queue_seconds": "An edit's time from its arrival in the process to its beginning",
            "encode_seconds": "Of the model's reading of a picture and its instruction",
            "step_seconds": "Of a denoising step of all edits that share it",
            "decode_seconds": "Of a picture's decoding, partial ones included",
            "batch_size": "Edits that share a step",
        }
        self._figures = {
            name: metrics.Histogram(
                f"reasonray_{name}",
                description=text,
                boundaries=[1, 2, 4, 8, 16, 32] if name == "batch_size" else _SECONDS,
            )
            for name, text in texts.items()
        }
        self._cancelled = metrics.Counter(
            "reasonray_edits_cancelled", description="Edits that nobody waited for any more"
        )
        self._rejected = metrics.Counter(
            "reasonray_edits_rejected",
            description="Edits that were begun or waited and were not made: late, unsafe or failed",
            tag_keys=("reason",),
        )

    def observe(self, figure: Figure, value: float) -> None:
        """Of the engine."""
        self._figures[figure].observe(value)

    def cancelled(self) -> None:
        """An edit was given up by who asked for it."""
        self._cancelled.inc()

    def rejected(self, reason: str) -> None:
        """An edit was not made."""
        self._rejected.inc(tags={"reason": reason})


class LocalEditor:
    """An editor in this process, ready when it is constructed: it has edited once.

    Args:
        model: where the editor is, and on what it runs.
        config: of the service.

    Raises:
        UserError: the editor, the safety checker or the certificate cannot be loaded.
    """

    def __init__(self, model: ServedModel, config: ServingConfig) -> None:
        self.deadline_s = config.deadline_s
        self.finisher = Finisher(config.mark, config.safety, config.c2pa)
        place = ModelConfig(
            name=model.editor, revision=model.revision, device=model.device, dtype=model.dtype
        )
        if weights.device(place).type == "cpu":
            # Of two threads beside those of others each waits for the other most of the time.
            torch.set_num_threads(1)
        options: dict[str, Any] = {"torch_dtype": weights.dtype(place), "use_safetensors": True}
        with silence:  # newer versions of diffusers would have it called dtype
            pipe = weights.load_part(ReasonEditPipeline, place, **options)
        pipe.to(weights.device(place))
        self._facts = _facts(pipe, place, model.side)
        self.metrics = Metrics()
        self.engine = Engine(pipe, max_batch=model.max_batch, observe=self.metrics.observe)
        whole = self._facts.side // self.engine.factor * self.engine.factor
        self.engine.warm_up((whole, whole))

    async def facts(self) -> Facts:
        """What it says of itself."""
        return self._facts

    async def ping(self) -> None:
        """Answer."""

    async def check_health(self) -> None:
        """For Serve. It looks at the model's thread and never waits for it: busy is healthy.

        Raises:
            RuntimeError: the thread has ended or hangs.
        """
        silent = self.engine.silent_seconds
        if silent > MAX_SILENCE_S:
            raise RuntimeError(f"no sign of the model's thread for {silent:.0f} s")

    async def edit(self, task: EditTask) -> AsyncIterator[Event]:
        """Partial pictures, then the finished one, encoded; closed early, the work on it ends.

        Raises:
            ApiError: 504, it is late; 400, the safety checker refuses it, or it says more than the
                editor reads; 500, it cannot be made.
        """
        self._check_length(task.instruction)
        job = self._submitted(task)
        is_sent = False
        try:
            async for event in job.events():
                file = await asyncio.to_thread(self.finisher, event.image, task)
                if isinstance(event, Finished):
                    is_sent = True
                    yield FinishedFile(file)
                else:
                    yield PartialFile(event.index, file)
        except DeadlineExceeded:
            self.metrics.rejected("late")
            raise late(self.deadline_s) from None
        except UnsafeError as error:
            self.metrics.rejected("unsafe")
            raise ApiError(400, "content_policy_violation", str(error), "prompt") from None
        except EditFailed:
            self.metrics.rejected("failed")
            self._end_if_lost()
            raise internal() from None
        except (asyncio.CancelledError, GeneratorExit):
            # At the deadline the API takes the edit back, mostly before the model's thread sees it.
            if not is_sent and time.monotonic() > job.edit.deadline:
                self.metrics.rejected("late")
            elif not is_sent:
                self.metrics.cancelled()
            raise
        finally:
            job.cancel()

    def _check_length(self, instruction: str) -> None:
        """CLIP's text encoder reads 77 tokens, and the rest would be left out in silence."""
        pipe = self.engine.pipeline
        if pipe.mllm is not None:
            return
        most, count = pipe.tokenizer.model_max_length, len(pipe.tokenizer(instruction).input_ids)
        if count > most:
            raise invalid("prompt", f"has {count} tokens, this editor reads {most}; say it shorter")

    def _submitted(self, task: EditTask) -> Job:
        edit = Edit(
            image=PIL.Image.fromarray(task.image),
            instruction=task.instruction,
            seed=task.seed,
            num_inference_steps=task.num_inference_steps,
            guidance_scale=task.guidance_scale,
            image_guidance_scale=task.image_guidance_scale,
            mask=task.mask,
            num_partials=task.num_partials,
            deadline=time.monotonic() + task.deadline - time.time(),
        )
        try:
            return self.engine.submit(edit)
        except RuntimeError:
            self._end_if_lost()
            raise

    def _end_if_lost(self) -> None:
        # A process without its model answers at once, and so draws all requests until Serve asks
        # for its health. Those it has are done again by another.
        if math.isinf(self.engine.silent_seconds):
            os.kill(os.getpid(), signal.SIGKILL)


def _facts(pipe: Any, place: ModelConfig, side: int | None) -> Facts:
    """Of an editor that `train` has made, and of another diffusers folder what is usual."""
    source = weights.resolve(place)
    index: Any = cached_file(source, "model_index.json", revision=place.revision)
    settings = cached_file(
        source,
        "training.json",
        revision=place.revision,
        _raise_exceptions_for_missing_entries=False,
    )
    editor = json.loads(Path(settings).read_text())["editor"] if settings else {}
    drawn = editor.get("validation", {})
    trained = editor.get("image_size", pipe.unet.config.sample_size * pipe.vae_scale_factor)
    return Facts(
        side=side or trained,
        factor=pipe.vae_scale_factor,
        num_inference_steps=drawn.get("num_inference_steps", 50),
        guidance_scale=drawn.get("guidance_scale", 7.5),
        image_guidance_scale=drawn.get("image_guidance_scale", 1.5),
        created=int(written(_original(place, index))),
    )


def _original(place: ModelConfig, index: str) -> Place:
    """Of a file of the editor: a copy of a store's is as old as the machine's first need of it."""
    return Path(index) if is_local(place.name) else stored(place.name) / Path(index).name


# Any: what Serve makes of a class is declared in two ways.
Editor: Any = serve.deployment(
    max_queued_requests=32,
    max_constructor_retry_count=3,
    # A rolling update starts the new one before it ends the old.
    max_surge_percent=100,
    health_check_period_s=5,
    health_check_timeout_s=10,
    logging_config=LoggingConfig(enable_access_log=False),
)(LocalEditor)

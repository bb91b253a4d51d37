"""The deployment that holds an editor: tasks in, encoded pictures out."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import PIL.Image
from ray import serve
from ray.serve.schema import LoggingConfig

from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.engine import Engine
from reasonray.serving.errors import ApiError, internal, late
from reasonray.serving.jobs import DeadlineExceeded, Edit, EditFailed, Finished
from reasonray.serving.task import (
    EditTask,
    Event,
    Facts,
    FinishedFile,
    Finisher,
    PartialFile,
    UnsafeError,
)


class LocalEditor:
    """An editor in this process."""

    def __init__(self, model: ServedModel, config: ServingConfig) -> None:
        import torch

        torch.set_num_threads(1)
        folder = Path(model.editor)
        pipe = ReasonEditPipeline.from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        settings = json.loads((folder / "training.json").read_text())["editor"]
        drawn = settings["validation"]
        self.config = config
        self.engine = Engine(pipe, max_batch=model.max_batch)
        self.finisher = Finisher(config.mark, config.safety)
        self._facts = Facts(
            side=model.side or settings["image_size"],
            factor=self.engine.factor,
            num_inference_steps=drawn["num_inference_steps"],
            guidance_scale=drawn["guidance_scale"],
            image_guidance_scale=drawn["image_guidance_scale"],
            created=int((folder / "model_index.json").stat().st_mtime),
        )
        self.engine.warm_up((64, 64))

    async def facts(self) -> Facts:
        """What it says of itself."""
        return self._facts

    async def ping(self) -> None:
        """Answer."""

    async def edit(self, task: EditTask) -> AsyncIterator[Event]:
        """Partial pictures, then the finished one, encoded."""
        job = self.engine.submit(
            Edit(
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
        )
        try:
            async for event in job.events():
                file = await asyncio.to_thread(self.finisher, event.image, task)
                if isinstance(event, Finished):
                    yield FinishedFile(file)
                else:
                    yield PartialFile(event.index, file)
        except DeadlineExceeded:
            raise late(self.config.deadline_s) from None
        except UnsafeError as error:
            raise ApiError(400, "content_policy_violation", str(error), "prompt") from None
        except EditFailed:
            raise internal() from None
        finally:
            job.cancel()


Editor = serve.deployment(
    max_queued_requests=32,
    max_surge_percent=100,
    health_check_period_s=5,
    health_check_timeout_s=10,
    logging_config=LoggingConfig(enable_access_log=False),
)(LocalEditor)

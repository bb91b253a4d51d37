"""What comes out of the engine, whatever else it is asked for meanwhile."""

import asyncio
import io
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from serving_editor import Paced, alone, edit, paced, pipeline, pixels
from tiny_editor import picture

from reasonray.serving.engine import (
    Cancelled,
    DeadlineExceeded,
    EditFailed,
    Engine,
    Finished,
    Partial,
)
from reasonray.serving.samples import Sample

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Of diffusers' schedulers."""

SECRET = "an instruction that logs must not have"

SCHEDULERS = (
    DDIMScheduler,
    EulerDiscreteScheduler,
    EulerAncestralDiscreteScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
)


@pytest.fixture
def start() -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def started(pipe: Any, **options: Any) -> Engine:
        engines.append(Engine(pipe, **options))
        return engines[-1]

    yield started
    for engine in engines:
        if isinstance(engine.pipeline.unet, Paced):
            engine.pipeline.unet.let(1000)
        engine.close()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_whatever_joins_or_leaves_an_edit_comes_out_as_alone(scheduler: Any, start: Any) -> None:
    pipe = pipeline("mlp", scheduler)
    expected = [alone(pipe, edit(number)) for number in range(5)]
    unet = paced(pipe)
    engine = start(pipe, max_batch=3)
    jobs = [engine.submit(edit(0))]
    for number in (1, 2, 3, 4):
        unet.let(1)
        jobs.append(engine.submit(edit(number)))
    unet.let(1000)
    for job, image in zip(jobs, expected, strict=True):
        assert np.abs(pixels(job.result(60)) - image).max() <= 1
    assert max(unet.batches) == 3


@pytest.mark.parametrize(
    ("condition", "options"),
    [("text", {}), ("text+lora", {}), ("resampler", {}), ("mlp", {"tokens": "last"})],
)
def test_so_it_is_with_every_kind_of_editor(condition: str, options: Any, start: Any) -> None:
    pipe = pipeline(condition, **options)
    expected = [alone(pipe, edit(number)) for number in range(2)]
    engine = start(pipe)
    jobs = [engine.submit(edit(number)) for number in range(2)]
    for job, image in zip(jobs, expected, strict=True):
        assert np.abs(pixels(job.result(60)) - image).max() <= 1


def test_an_edit_without_instruction_is_computed_once(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, calls = pipeline("mlp"), []
    real = pipe.null_condition

    def counted() -> Any:
        calls.append(1)
        return real()

    monkeypatch.setattr(pipe, "null_condition", counted)
    engine = start(pipe)
    for job in [engine.submit(edit(number)) for number in range(3)]:
        job.result(60)
    assert len(calls) == 1


def truncated() -> PIL.Image.Image:
    buffer = io.BytesIO()
    picture(0, (32, 32)).save(buffer, "PNG")
    return PIL.Image.open(io.BytesIO(buffer.getvalue()[:200]))


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ({"image": truncated()}, "encoding failed: OSError"),
        ({"seed": 2**70}, "encoding failed"),
        ({"guidance_scale": 1e38}, "no numbers"),
    ],
)
def test_a_poisoned_edit_fails_alone(poison: Any, reason: str, start: Any) -> None:
    pipe = pipeline()
    expected = [alone(pipe, edit(number)) for number in range(2)]
    engine = start(pipe)
    jobs = [engine.submit(each) for each in (edit(0), edit(2, **poison), edit(1))]
    with pytest.raises(EditFailed, match=reason):
        jobs[1].result(60)
    for job, image in zip(jobs[::2], expected, strict=True):
        assert np.abs(pixels(job.result(60)) - image).max() <= 1


def test_a_step_that_fails_with_one_of_a_batch_goes_on_with_the_others(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = pipeline()
    expected = [alone(pipe, edit(number)) for number in range(3)]
    unet = paced(pipe, 1000)
    bad = pipe.encode_source([edit(1).image])

    def fail(noisy: torch.Tensor) -> None:
        sources = noisy[: len(noisy) // 3, 4:]
        if any(torch.equal(each[None], bad) for each in sources):
            raise RuntimeError(f"no step with {SECRET}")

    unet.check = fail
    engine = start(pipe)
    jobs = [engine.submit(edit(number)) for number in range(3)]
    with pytest.raises(EditFailed, match="a step failed: RuntimeError"):
        jobs[1].result(60)
    for number in (0, 2):
        assert np.abs(pixels(jobs[number].result(60)) - expected[number]).max() <= 1
    assert "in fail" in caplog.text
    assert SECRET not in caplog.text


def test_a_scheduler_that_fails_ends_its_own_edit(start: Any, monkeypatch: Any) -> None:
    real = Sample.advance

    def fail(sample: Sample, *inputs: Any) -> None:
        if sample.edit.seed == edit(1).seed:
            raise IndexError("index out of bounds")
        real(sample, *inputs)

    monkeypatch.setattr(Sample, "advance", fail)
    engine = start(pipeline())
    for numbers in ([0, 1], [1]):
        jobs = [engine.submit(edit(number)) for number in numbers]
        with pytest.raises(EditFailed, match="IndexError"):
            jobs[-1].result(60)
        for job in jobs[:-1]:
            job.result(60)
    assert engine.silent_seconds < 60


def test_what_does_not_fit_is_halved_and_that_is_said_once(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = pipeline()
    edits = [edit(number, num_inference_steps=6) for number in range(4)]
    expected = [alone(pipe, each) for each in edits]
    unet = paced(pipe, 1000)

    def fail(noisy: torch.Tensor) -> None:
        if len(noisy) > 3 * 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    unet.check = fail
    engine = start(pipe, max_batch=4)
    for _ in range(2):
        jobs = [engine.submit(each) for each in edits]
        for job, image in zip(jobs, expected, strict=True):
            assert np.abs(pixels(job.result(60)) - image).max() <= 1
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "edits of 32x32 at once" in warnings[0]


def test_one_that_does_not_fit_alone_fails_and_the_next_is_tried(start: Any) -> None:
    pipe = pipeline()
    unet = paced(pipe, 1000)

    def fail(noisy: torch.Tensor) -> None:
        if noisy.shape[-1] > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    unet.check = fail
    engine = start(pipe)
    jobs = [engine.submit(edit(0, image=picture(0, (64, 64)))), engine.submit(edit(1))]
    with pytest.raises(EditFailed, match="OutOfMemory"):
        jobs[0].result(60)
    jobs[1].result(60)


def test_cancelled_and_late_ones_leave_before_the_next_step(start: Any) -> None:
    pipe = pipeline()
    unet = paced(pipe)
    engine = start(pipe)
    gone, late, kept = (
        engine.submit(edit(number, num_inference_steps=12, deadline=deadline))
        for number, deadline in enumerate((time.monotonic() + 1000, time.monotonic() + 2, np.inf))
    )
    unet.let(3)
    unet.wait_for(3)
    gone.cancel()
    time.sleep(2)
    unet.let(1000)
    with pytest.raises(Cancelled):
        gone.result(60)
    with pytest.raises(DeadlineExceeded, match=r"after \d+\.\d s"):
        late.result(60)
    kept.result(60)
    # The call that waited already still had all three.
    assert set(unet.batches[4:]) == {1}


def test_one_that_is_cancelled_in_the_queue_is_never_begun(start: Any) -> None:
    pipe = pipeline()
    unet = paced(pipe)
    engine = start(pipe, max_batch=1)
    jobs = [engine.submit(edit(number)) for number in range(3)]
    jobs[1].cancel()
    unet.let(1000)
    jobs[2].result(60)
    with pytest.raises(Cancelled):
        jobs[1].result(60)
    assert len(unet.batches) == 3 + 5


def test_none_joins_past_an_older_one_of_another_size_and_a_new_batch_is_full(start: Any) -> None:
    pipe = pipeline()
    unet = paced(pipe)
    engine = start(pipe)
    wide = picture(0, (48, 32))
    jobs = [engine.submit(edit(0, num_inference_steps=4))]
    unet.wait_to_begin()
    for image in (wide, picture(1), wide, picture(2)):
        jobs.append(engine.submit(edit(0, image=image, num_inference_steps=4)))
    unet.let(1000)
    for job in jobs:
        assert job.result(60).size == job.edit.image.size
    assert unet.runs() == [16, 24, 16]
    assert unet.batches[:4] == [1] * 4
    assert unet.batches.count(2) >= 2


def test_a_burst_does_not_stop_those_that_run(start: Any, monkeypatch: Any) -> None:
    """Encoding takes longer than a step here: one edit is encoded between two of them."""
    pipe = pipeline()
    encode = pipe.encode_source

    def slowly(images: Any) -> Any:
        time.sleep(0.3)
        return encode(images)

    monkeypatch.setattr(pipe, "encode_source", slowly)
    unet = paced(pipe, 1000)
    engine = start(pipe)
    for job in [engine.submit(edit(0, num_inference_steps=8)) for _ in range(4)]:
        job.result(60)
    assert unet.batches[:4] == [1, 2, 3, 4]


def test_max_batch_may_depend_on_the_size(start: Any) -> None:
    pipe = pipeline()
    unet = paced(pipe, 1000)
    engine = start(pipe, max_batch={32: 3, 48: 2})
    for side, largest in ((32, 3), (40, 2), (64, 1)):
        unet.batches.clear()
        image = picture(0, (side, 32))
        for job in [engine.submit(edit(0, image=image, num_inference_steps=8)) for _ in range(4)]:
            job.result(60)
        assert max(unet.batches) == largest


def test_warming_up_does_a_step_with_a_full_batch(start: Any) -> None:
    pipe = pipeline()
    unet = paced(pipe, 1000)
    engine = start(pipe, max_batch=3)
    engine.warm_up((32, 32))
    assert max(unet.batches) == 3
    assert (engine.num_running, engine.num_waiting) == (0, 0)
    assert engine.step_seconds > 0


def test_partial_pictures_are_what_the_edit_heads_for(start: Any) -> None:
    engine = start(pipeline())
    job = engine.submit(edit(0, num_inference_steps=8, num_partials=3))
    other = engine.submit(edit(1))
    final = pixels(job.result(60))
    other.result(60)
    events = asyncio.run(listened(job))
    assert [type(event) for event in events] == [Partial] * 3 + [Finished]
    assert [event.index for event in events[:-1]] == [0, 1, 2]
    assert np.array_equal(pixels(events[-1].image), final)
    far = [np.abs(pixels(event.image) - final).mean() for event in events]
    assert far[0] > far[1] > far[2] > 0
    assert far[2] < 8


@pytest.mark.parametrize(("steps", "partials"), [(1, 0), (2, 1), (3, 2), (4, 3)])
def test_of_few_steps_there_are_fewer_partial_pictures(
    steps: int, partials: int, start: Any
) -> None:
    engine = start(pipeline())
    job = engine.submit(edit(0, num_inference_steps=steps, num_partials=3))
    events = asyncio.run(listened(job))
    assert len(events) == partials + 1
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_outside_the_mask_every_picture_is_the_source(scheduler: Any, start: Any) -> None:
    engine = start(pipeline(scheduler=scheduler))
    mask = np.zeros((32, 48), bool)
    mask[5:20, 30:] = True
    source = picture(3, (48, 32))
    job = engine.submit(edit(0, image=source, mask=mask, num_partials=2))
    for event in asyncio.run(listened(job)):
        assert np.array_equal(pixels(event.image)[~mask], pixels(source)[~mask])
        assert np.abs(pixels(event.image) - pixels(source))[mask].mean() > 3


def test_a_mask_of_the_whole_picture_changes_nothing(start: Any) -> None:
    engine = start(pipeline())
    everywhere = np.ones((32, 32), bool)
    plain, masked = (engine.submit(edit(0, mask=mask)).result(60) for mask in (None, everywhere))
    assert np.array_equal(pixels(plain), pixels(masked))


def test_events_come_to_any_loop_as_they_happen(start: Any) -> None:
    pipe = pipeline()
    unet = paced(pipe)
    engine = start(pipe)

    async def listen() -> None:
        job = engine.submit(edit(0, num_inference_steps=4, num_partials=1))
        events = job.events()
        unet.let(2)
        first = await anext(events)
        assert isinstance(first, Partial)
        assert len(unet.batches) == 2
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        job.cancel()
        unet.let(1)
        with pytest.raises(Cancelled):
            await waiting

    asyncio.run(listen())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"image": picture(0, (33, 32))}, "33x32: its sides must be multiples of 2"),
        ({"image": picture().convert("L")}, "mode L"),
        ({"mask": np.ones((16, 32), bool)}, "mask"),
    ],
)
def test_what_cannot_be_edited_is_refused(changes: Any, match: str, start: Any) -> None:
    with pytest.raises(ValueError, match=match):
        start(pipeline()).submit(edit(0, **changes))


def test_a_closed_engine_fails_what_it_had_and_takes_no_more(start: Any) -> None:
    pipe = pipeline()
    unet = paced(pipe)
    engine = start(pipe, max_batch=1)
    jobs = [engine.submit(edit(number)) for number in range(2)]
    assert engine.silent_seconds < 60
    unet.wait_to_begin()
    with pytest.raises(TimeoutError):
        jobs[0].result(0)
    engine.close(wait=False)
    unet.let(1000)
    for job in jobs:
        with pytest.raises(EditFailed, match="closed"):
            job.result(60)
    engine.close()
    assert engine.silent_seconds == np.inf
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(edit())


async def listened(job: Any) -> list[Any]:
    return [event async for event in job.events()]

"""The deployment's class, called directly; Serve itself is in test_service.py."""

import asyncio
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from served_editor import SIDE, STEPS, editor_folder
from serving_editor import Paced, alone, edit, paced, pixels
from tiny_editor import picture, text_parts

from reasonray.core.errors import UserError
from reasonray.core.place import Place, place, written
from reasonray.core.writing import publish
from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.editor import LocalEditor
from reasonray.serving.errors import ApiError
from reasonray.serving.task import EditTask, FinishedFile, PartialFile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return editor_folder(tmp_path_factory.mktemp("served"))


def opened(folder: Place, **settings: Any) -> LocalEditor:
    model = ServedModel(editor=str(folder), max_batch=2)
    models = {"tiny": model}
    return LocalEditor(model, ServingConfig(models=models, anonymous=True, **settings))


@pytest.fixture(scope="module")
def editor(folder: Path) -> Iterator[LocalEditor]:
    editor = opened(folder, safety="served_editor:no_forbidden_word")
    yield editor
    editor.engine.close()


@pytest.fixture
def unet(editor: LocalEditor) -> Iterator[Paced]:
    pipe: Any = editor.engine.pipeline
    real = pipe.unet
    yield paced(pipe)
    pipe.unet.let(1000)
    while editor.engine.num_running:
        time.sleep(0.01)
    pipe.unet = real


def task(**changes: Any) -> EditTask:
    values: dict[str, Any] = {
        "image": np.asarray(picture()),
        "instruction": "Show what it makes.",
        "seed": 3,
        "num_inference_steps": STEPS,
        "guidance_scale": 2.0,
        "image_guidance_scale": 1.5,
        "mask": None,
        "num_partials": 0,
        "deadline": time.time() + 100,
        "size": (SIDE, SIDE),
        "source": None,
        "full_mask": None,
        "format": "png",
        "compression": 100,
    }
    return EditTask(**{**values, **changes})


def test_an_editor_on_a_store_edits_as_on_a_disk(
    editor: LocalEditor, folder: Path, bucket: str, tmp_path: Path
) -> None:
    publish(shutil.copytree(folder, tmp_path / "copy"), place(bucket) / "editor")
    theirs = opened(place(bucket) / "editor")
    try:
        files = [asyncio.run(events(each, task()))[-1].file for each in (editor, theirs)]
        assert files[0] == files[1]
        facts = [asyncio.run(each.facts()) for each in (editor, theirs)]
        assert facts[1].side == facts[0].side == SIDE
        assert facts[1].created == int(written(place(bucket) / "editor" / "model_index.json"))
    finally:
        theirs.engine.close()


async def events(editor: LocalEditor, task: EditTask) -> list[Any]:
    return [event async for event in editor.edit(task)]


def opened_file(file: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(file))


def test_it_says_what_its_training_has_written(editor: LocalEditor) -> None:
    facts = asyncio.run(editor.facts())
    assert (facts.side, facts.factor, facts.num_inference_steps) == (SIDE, 2, STEPS)
    assert (facts.guidance_scale, facts.image_guidance_scale) == (2.0, 1.5)
    assert abs(facts.created - time.time()) < 3600


def test_a_pipeline_of_other_origin_has_the_usual_settings(folder: Path, tmp_path: Path) -> None:
    for part in folder.iterdir():
        if part.name != "training.json":
            (tmp_path / part.name).symlink_to(part)
    editor = opened(tmp_path)
    facts = asyncio.run(editor.facts())
    editor.engine.close()
    assert (facts.side, facts.num_inference_steps, facts.guidance_scale) == (32, 50, 7.5)


def test_what_an_editor_that_reads_text_alone_would_cut_off_is_refused(tmp_path: Path) -> None:
    editor = opened(editor_folder(tmp_path, **text_parts()))
    longest, longer = "w" * 22, "w" * 23
    [finished] = asyncio.run(events(editor, task(instruction=longest)))
    assert isinstance(finished, FinishedFile)
    with pytest.raises(ApiError, match="has 25 tokens, this editor reads 24") as refused:
        asyncio.run(events(editor, task(instruction=longer)))
    editor.engine.close()
    assert (refused.value.status, refused.value.param) == (400, "prompt")


def test_the_files_are_the_pipeline_s_pictures_with_the_mark(editor: LocalEditor) -> None:
    """And partial ones come before."""
    partial, finished = asyncio.run(events(editor, task(num_partials=1)))
    assert isinstance(partial, PartialFile)
    assert isinstance(finished, FinishedFile)
    same = edit(
        0, image=picture(), instruction="Show what it makes.", seed=3,
        num_inference_steps=STEPS, guidance_scale=2.0, image_guidance_scale=1.5,
    )  # fmt: skip
    expected = alone(editor.engine.pipeline, same)
    assert np.abs(pixels(opened_file(finished.file)) - expected).max() <= 1
    for file in (partial.file, finished.file):
        assert opened_file(file).format == "PNG"
        assert b"compositeWithTrainedAlgorithmicMedia" in file
    [webp] = asyncio.run(events(editor, task(format="webp", compression=80)))
    assert opened_file(webp.file).format == "WEBP"


def test_whoever_leaves_frees_the_model_before_its_next_step(
    editor: LocalEditor, unet: Paced
) -> None:
    async def leave(by_closing: bool) -> None:
        asking = editor.edit(task(num_inference_steps=50, num_partials=1))
        waiting = asyncio.ensure_future(anext(asking))
        await asyncio.to_thread(unet.wait_to_begin)
        if by_closing:
            unet.let(25)
            await waiting
            await asking.aclose()  # type: ignore[attr-defined]
        else:
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        done = len(unet.batches)
        unet.let(1000)
        while editor.engine.num_running:
            await asyncio.sleep(0.01)
        assert len(unet.batches) <= done + 1
        unet.drain()

    asyncio.run(leave(False))
    asyncio.run(leave(True))


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"deadline": time.time() - 1}, 504, "timeout"),
        ({"instruction": "a forbidden thing"}, 400, "content_policy_violation"),
        ({"guidance_scale": 1e38}, 500, "internal_error"),
    ],
)
def test_what_is_not_made_has_its_own_answer(
    changes: Any, status: int, code: str, editor: LocalEditor
) -> None:
    with pytest.raises(ApiError) as raised:
        asyncio.run(events(editor, task(**changes)))
    assert (raised.value.status, raised.value.code) == (status, code)
    assert len(asyncio.run(events(editor, task()))) == 1


def test_what_the_api_gives_up_is_counted_once_as_late_or_as_left(
    editor: LocalEditor, unet: Paced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the deadline it is the API that gives up first: the model's thread is in a step."""
    counts: list[str] = []
    monkeypatch.setattr(editor.metrics, "rejected", counts.append)
    monkeypatch.setattr(editor.metrics, "cancelled", lambda: counts.append("cancelled"))

    async def give_up(seconds: float, patience: float) -> None:
        asking = asyncio.ensure_future(events(editor, task(deadline=time.time() + seconds)))
        await asyncio.to_thread(unet.wait_to_begin)
        await asyncio.sleep(patience)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        unet.let(1000)
        while editor.engine.num_running:
            await asyncio.sleep(0.01)
        unet.drain()

    asyncio.run(give_up(seconds=0.5, patience=0.6))
    assert counts == ["late"]
    asyncio.run(give_up(seconds=100, patience=0))
    assert counts == ["late", "cancelled"]


def test_health_does_not_wait_for_the_model(editor: LocalEditor, unet: Paced) -> None:
    async def busy() -> None:
        asking = editor.edit(task())
        waiting = asyncio.ensure_future(anext(asking))
        await asyncio.to_thread(unet.wait_to_begin)
        await asyncio.wait_for(editor.check_health(), 60)
        await asyncio.wait_for(editor.ping(), 60)
        unet.let(1000)
        await waiting

    asyncio.run(busy())


def test_a_process_whose_model_is_lost_is_unhealthy_and_ends_when_it_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended, its requests are another's; its own answers would all be errors."""
    signals: list[int] = []
    monkeypatch.setattr(
        "reasonray.serving.editor.os.kill", lambda process, signal: signals.append(signal)
    )
    editor = opened(folder)
    monkeypatch.setattr(editor.metrics, "observe", _raise)
    editor.engine._observe = _raise  # noqa: SLF001  stands for a fault outside all edits
    with pytest.raises(ApiError):
        asyncio.run(events(editor, task()))
    assert signals
    with pytest.raises(RuntimeError, match="model's thread"):
        asyncio.run(editor.check_health())
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(events(editor, task()))


def _raise(*words: object) -> None:
    raise RuntimeError("the device is gone")


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"safety": "nowhere:at_all"}, "safety"), ({}, "no ReasonEditPipeline can be loaded")],
)
def test_what_cannot_be_opened_is_said_in_a_line(changes: Any, match: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "ReasonEditPipeline"}))
    with pytest.raises(UserError, match=match):
        opened(tmp_path, **changes)


def test_figures_have_names_that_serve_does_not_use(editor: LocalEditor) -> None:
    asyncio.run(events(editor, task()))
    names = [
        each.info["name"]
        for each in editor.metrics._figures.values()  # noqa: SLF001
    ]
    assert len(names) == 5
    assert all(name.startswith("reasonray_") for name in names)

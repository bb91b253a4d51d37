"""FSDP in processes of its own, over gloo: the same training as on one worker."""

import json
import multiprocessing
import multiprocessing.forkserver
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import gloo_worker
import pytest
import tiny_base
import torch
from torch.multiprocessing.spawn import start_processes

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor import metrics_log

# Processes that import torch, several times a test: minutes where the machine is busy.
pytestmark = [
    pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900),
]  # fmt: skip
Figures = list[tuple[str, int, float]]


@pytest.fixture(scope="module", autouse=True)
def imported_once() -> None:
    """The server that processes are forked from imports torch and the editor, not each of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.set_forkserver_preload([gloo_worker.__name__])
        multiprocessing.forkserver.ensure_running()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with settings and features."""
    folder = tmp_path_factory.mktemp("sharding")
    settings = tiny_base.editor_settings(folder, num_steps=9, machines={"micro_batch_size": 1})
    (folder / "editor.json").write_text(json.dumps(settings))
    config = EditorConfig.model_validate(settings)
    data = tiny_base.data(folder / "data", [tiny_base.sample(number) for number in range(20)])
    tiny_base.cached(config, data, folder / "features")
    return folder


def train(place: Path, folder: Path, world_size: int, **changes: Any) -> Figures:
    """Figures of all steps after a training in new processes, or in this one."""
    folder.mkdir(exist_ok=True)
    arguments = (world_size, folder / f"meeting-{uuid.uuid4().hex}", place, folder, changes)
    if world_size == 1:
        gloo_worker.work(0, *arguments)
    else:
        start_processes(gloo_worker.work, arguments, world_size, start_method="forkserver")
    return figures(folder)


def figures(folder: Path) -> Figures:
    return [
        (line["stage"], line["step"], value)
        for line in metrics_log.read_metrics(folder / metrics_log.METRICS)
        for name, value in line.items()
        if name in ("loss", "grad_norm", "held_out")
    ]


def assert_close(ours: Figures, theirs: Figures) -> None:
    assert [each[:2] for each in ours] == [each[:2] for each in theirs]
    assert all(abs(a[2] - b[2]) < 1e-4 for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """An undisturbed training on one worker."""
    train(place, place / "alone", 1)
    return place / "alone"


@pytest.fixture(scope="module")
def together(place: Path) -> Path:
    """An undisturbed training on two."""
    train(place, place / "together", 2)
    return place / "together"


def assert_same_weights(ours: Path, theirs: Path) -> None:
    found, expected = (torch.load(folder / "editor.pt") for folder in (ours, theirs))
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-3) for name in expected)


def test_two_sharded_workers_learn_what_one_does(alone: Path, together: Path) -> None:
    assert len(figures(together)) > 24
    assert_close(figures(together), figures(alone))
    assert_same_weights(together, alone)


def test_two_sharded_workers_train_adapters_as_one_does(place: Path, tmp_path: Path) -> None:
    alone = train(place, tmp_path / "alone", 1, lora_rank=2, alignment_steps=1, num_steps=3)
    both = train(place, tmp_path / "both", 2, lora_rank=2, alignment_steps=1, num_steps=3)
    assert_close(both, alone)
    assert_same_weights(tmp_path / "both", tmp_path / "alone")


@pytest.mark.nightly  # one that goes on by another number of workers is below
def test_a_killed_sharded_training_goes_on_with_the_same_losses(
    place: Path, together: Path, tmp_path: Path
) -> None:
    train(place, tmp_path, 2, stop_after=4)
    assert train(place, tmp_path, 2) == figures(together)


@pytest.mark.parametrize(
    ("before", "after", "stop_after"),
    [(2, 1, 1), pytest.param(1, 2, 4, marks=pytest.mark.nightly)],
)
def test_another_number_of_workers_goes_on(
    place: Path, alone: Path, tmp_path: Path, before: int, after: int, stop_after: int
) -> None:
    train(place, tmp_path, before, stop_after=stop_after)
    assert_close(train(place, tmp_path, after), figures(alone))

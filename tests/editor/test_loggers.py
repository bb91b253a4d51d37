"""What TensorBoard, W&B and MLflow are told; the last two played by modules that record it."""

import contextlib
import copy
import importlib.machinery
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import PIL.Image
import pytest
import tiny_base
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reasonray.cli.main import call
from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.editor import features, finished, loggers, metrics_log, model, training
from reasonray.editor.batches import Batches, of_all

pytestmark = pytest.mark.slow
Told = dict[str, list[tuple[int, Any]]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[EditorConfig, features.Features]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("loggers")
    config = EditorConfig.model_validate(tiny_base.editor_settings(folder))
    data = tiny_base.data(folder / "data", [tiny_base.sample(number) for number in range(6)])
    return config, tiny_base.cached(config, data, folder / "features")


def run(
    place: tuple[EditorConfig, features.Features],
    folder: Path,
    name: str,
    stop_after: int | None = None,
    restored: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train with a logger; what the last checkpoint held. A kill is played after some of them."""
    config, samples = place
    folder.mkdir(exist_ok=True)
    kept: list[dict[str, Any]] = []

    class KilledError(Exception):
        pass

    def save(state: dict[str, Any]) -> None:
        if len(kept) == stop_after:
            raise KilledError
        kept.append(copy.deepcopy(state))

    artist = finished.Artist(config, samples, [4], folder / "samples", torch.device("cpu"))
    editor, scheduler = model.load_editor(config, samples.width, seed=0)
    built = loggers.build([name], folder, {"learning_rate": config.learning_rate})
    worker = training.Worker(save=save, folder=folder, restored=restored, loggers=built)
    held_out = of_all(samples, [4, 5], config, seed=0)
    batches = Batches(samples, range(4), config, seed=0)
    with contextlib.suppress(KilledError):
        training.train(editor, scheduler, batches, held_out, config, worker, 0.5, artist.draw)
    return kept[-1]


def expected(folder: Path) -> Told:
    """By `metrics.jsonl`: three steps of alignment before those of the editing."""
    found: Told = {}
    for line in metrics_log.read_metrics(folder / metrics_log.METRICS):
        step = line.pop("step") + (3 if line["stage"] == "editing" else 0)
        stage = line.pop("stage")
        for name, value in line.items():
            found.setdefault(f"{stage}/{name}", []).append((step, pytest.approx(value, rel=1e-6)))
    assert [step for step, _ in found["editing/loss"]] == [4, 5, 6, 7, 8]
    assert [step for step, _ in found["editing/held_out"]] == [3, 6, 8]
    return found


def interrupted(place: Any, folder: Path, name: str, stop_after: int) -> None:
    state = run(place, folder, name, stop_after)
    run(place, folder, name, restored=state)


def events(folder: Path) -> Any:
    found: Any = EventAccumulator(
        str(folder / "tensorboard"), {"scalars": 0, "images": 0}, purge_orphaned_data=False
    )
    return found.Reload()


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_tensorboard_has_every_figure_and_sheet_once(
    place: Any, tmp_path: Path, stop_after: int
) -> None:
    interrupted(place, tmp_path / "out", "tensorboard", stop_after)
    found = events(tmp_path / "out")
    scalars = {
        tag: [(each.step, each.value) for each in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }
    assert scalars == expected(tmp_path / "out")
    sheets = found.Images("samples")
    assert [each.step for each in sheets] == [3, 6, 8]
    with PIL.Image.open(tmp_path / "out" / "samples" / "step-000005.png") as drawn:
        assert (sheets[-1].width, sheets[-1].height) == drawn.size


class Recorded:
    """What a service was told, over several runs of the process."""

    def __init__(self) -> None:
        self.metrics: dict[str, Told] = {}
        self.images: dict[str, set[Any]] = {}
        self.finished: list[str] = []

    def tell(self, run_id: str, tag: str, value: Any, step: int) -> None:
        self.metrics.setdefault(run_id, {}).setdefault(tag, []).append((step, value))

    def draw(self, run_id: str, where: Any) -> None:
        self.images.setdefault(run_id, set()).add(where)


def wandb(told: Recorded) -> ModuleType:
    """Its `init`, `log` and `finish`: a resumed run takes no step that it has."""

    class Run:
        def __init__(self, given: dict[str, Any]) -> None:
            self.id = given["id"]
            had = [step for each in told.metrics.get(self.id, {}).values() for step, _ in each]
            self.starting_step = max(had, default=-1) + 1
            assert given["resume"] == "allow"

        def log(self, row: dict[str, Any], step: int) -> None:
            assert step >= self.starting_step
            for tag, value in row.items():
                if isinstance(value, SimpleNamespace):
                    told.draw(self.id, (tag, step))
                else:
                    told.tell(self.id, tag, value, step)

        def finish(self) -> None:
            told.finished.append(self.id)

    module = ModuleType("wandb")
    vars(module).update(
        init=lambda **given: Run(given),
        Image=lambda image: SimpleNamespace(image=image),
        errors=SimpleNamespace(Error=OSError),
    )
    return module


def mlflow(told: Recorded) -> ModuleType:
    """Its client: a metric told twice is there twice."""

    class Client:
        def __init__(self, where: str) -> None:
            assert where.startswith("sqlite:///")

        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str, artifacts: str | None) -> str:
            return "0"

        def create_run(self, experiment: str, run_name: str) -> Any:
            return SimpleNamespace(info=SimpleNamespace(run_id=f"run-{len(told.metrics)}"))

        def log_param(self, run_id: str, key: str, value: Any) -> None:
            told.metrics.setdefault(run_id, {})

        def get_metric_history(self, run_id: str, tag: str) -> list[Any]:
            history = told.metrics[run_id].get(tag, [])
            return [SimpleNamespace(step=step) for step, _ in history]

        def log_metric(self, run_id: str, tag: str, value: float, step: int) -> None:
            told.tell(run_id, tag, value, step)

        def log_image(self, run_id: str, image: Any, artifact_file: str) -> None:
            told.draw(run_id, artifact_file)

        def set_terminated(self, run_id: str) -> None:
            told.finished.append(run_id)

    module = ModuleType("mlflow")
    vars(module).update(MlflowClient=Client)
    return module


@pytest.mark.parametrize(
    ("name", "play", "sheets"),
    [
        ("wandb", wandb, {("samples", step) for step in (3, 6, 8)}),
        ("mlflow", mlflow, {f"samples/step-00000{step}.png" for step in (3, 6, 8)}),
    ],
)
def test_a_service_has_one_run_with_every_figure_once(
    place: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    play: Callable[[Recorded], ModuleType],
    sheets: set[Any],
) -> None:
    told = Recorded()
    module = play(told)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    interrupted(place, tmp_path / "out", name, stop_after=3)
    [run_id] = told.metrics
    assert told.metrics[run_id] == expected(tmp_path / "out")
    assert told.images[run_id] == sheets
    assert told.finished == [run_id]


def test_a_logger_that_is_not_installed_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is not installed: pip install wandb"):
        loggers.check(["wandb"], tmp_path)
    arguments = ["train", "paper", "--data", str(tmp_path), "--output", str(tmp_path / "out")]
    assert call([*arguments, "--set", "editor.output.loggers=[mlflow]"]) == 2
    assert "editor.output.loggers: mlflow is not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

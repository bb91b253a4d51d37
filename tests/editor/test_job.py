"""`reasonray train` on a real local Ray: whole, killed, with two workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import tiny_base
import torch
import yaml
from object_store import Store
from one_cluster import Cluster, kill

from reasonray.cli.main import call
from reasonray.core.errors import UserError
from reasonray.core.place import Place, create, names
from reasonray.core.place import place as stored
from reasonray.core.recipe import RECIPES, load
from reasonray.core.session import last_session, session
from reasonray.core.writing import publish
from reasonray.editor.features_job import SESSIONS
from reasonray.editor.job import check_settings
from reasonray.editor.pipeline import ReasonEditPipeline

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

NUM_STEPS = 30
DRIVER = "import sys; from reasonray.cli.main import call; sys.exit(call(sys.argv[1:]))"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for the tiny editor, and a dataset."""
    folder = tmp_path_factory.mktemp("job")
    content = yaml.safe_load((RECIPES / "mini.yaml").read_text())
    content["editor"] = tiny_base.editor_settings(
        folder,
        num_steps=NUM_STEPS,
        validation={"validate_every": 100},
        machines={"checkpoint_every": 4},
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    tiny_base.data(folder / "data", [tiny_base.sample(number) for number in range(20)])
    return folder


@pytest.fixture(scope="module")
def whole(cluster: Cluster, place: Path) -> Path:
    """An undisturbed training."""
    assert start(place, place / "whole", RAY_ADDRESS=cluster.address).wait(timeout=240) == 0
    return place / "whole"


def start(
    place: Path, output: Path, *settings: str, **environment: str
) -> "subprocess.Popen[bytes]":
    """A training, on the Ray of `RAY_ADDRESS` or else one of its own."""
    arguments = ["train", str(place / "recipe.yaml"), "--data", str(place / "data")]
    arguments += ["--output", str(output), "--features", str(place / "features")]
    for setting in settings:
        arguments += ["--set", setting]
    return command(arguments, output.with_suffix(".log"), **environment)


def command(arguments: list[str], log: Path, **environment: str) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdout=subprocess.DEVNULL,
            stderr=file,
        )


def metrics(output: Place) -> list[bytes]:
    """The lines; of a store in one request, between two of which the file may become another."""
    path = output / "metrics.jsonl"
    content = path.read_bytes() if isinstance(path, Path) else path.fs.cat_file(path.path)
    return content.splitlines()


def losses(output: Place) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    for line in metrics(output):
        told: dict[str, Any] = json.loads(line)
        if "loss" in told:
            key = (told["stage"], told["step"])
            assert key not in found
            found[key] = told["loss"]
    return found


def wait_for_steps(output: Place, count: int) -> None:
    deadline = time.monotonic() + 150
    path = output / "metrics.jsonl"
    while not path.exists() or len(metrics(output)) < count:
        assert time.monotonic() < deadline, "the training does not move"
        time.sleep(0.02)


def kill_worker(driver: "subprocess.Popen[bytes]", log: Path, parent: int) -> None:
    kill(parent, "RayTrainWorker")


def kill_driver(driver: "subprocess.Popen[bytes]", log: Path, parent: int) -> None:
    driver.kill()
    driver.wait()


def interrupt_driver(driver: "subprocess.Popen[bytes]", log: Path, parent: int) -> None:
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 1
    assert log.read_text().endswith("reasonray: stopped; the same command continues it\n")


def stop_driver(driver: "subprocess.Popen[bytes]", log: Path, parent: int) -> None:
    driver.terminate()
    assert driver.wait(timeout=60) == 1
    last = "reasonray: stopped by SIGTERM; the same command continues it\n"
    assert log.read_text().endswith(last)


def edit(pipe: Any) -> bytes:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    picture = PIL.Image.new("RGB", (32, 32), "orange")
    edited: PIL.Image.Image = pipe(
        picture, "Show what it makes.", num_inference_steps=2, generator=generator
    ).images[0]
    return edited.tobytes()


def test_a_training_leaves_an_editor_that_edits(whole: Path, place: Path) -> None:
    found = losses(whole)
    assert sorted(found) == sorted(
        [("alignment", step) for step in range(1, 4)]
        + [("editing", step) for step in range(1, NUM_STEPS + 1)]
    )
    edited = edit(ReasonEditPipeline.from_pretrained(whole / "editor"))
    assert len(set(edited)) > 1
    assert not list((whole / "editor").rglob("*.bin"))
    card = (whole / "editor" / "README.md").read_text()
    assert "Held-out loss" in card
    counts = json.loads((whole / "counts.json").read_text())
    assert counts["trained_on"] + counts["held_out"] == 20
    assert counts["left_out"] == 0
    assert f"trains on {counts['trained_on']} samples, holds out {counts['held_out']};" in card
    assert list((whole / "samples").glob("step-*.png"))
    assert start(place, whole).wait(timeout=60) == 0  # nothing to do
    assert not (whole / "features").exists()
    assert len(list((place / "features").glob("*/features.json"))) == 1


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("ray", "faults"),
    [
        # A driver that is killed: on a store, below.
        ("cluster", [kill_worker, stop_driver]),
        pytest.param("own", [kill_worker, interrupt_driver], marks=pytest.mark.nightly),
        pytest.param("own", [kill_driver], marks=pytest.mark.nightly),
        pytest.param("cluster", [kill_driver, kill_worker], marks=pytest.mark.nightly),
    ],
)
def test_a_killed_training_goes_on_with_the_same_losses(
    cluster: Cluster,
    whole: Path,
    place: Path,
    tmp_path: Path,
    ray: str,
    faults: "list[Callable[[subprocess.Popen[bytes], Path, int], None]]",
) -> None:
    where = {"RAY_ADDRESS": cluster.address} if ray == "cluster" else {}
    driver = start(place, tmp_path / "out", **where)
    for fault, num_steps in zip(faults, (10, 20), strict=False):
        wait_for_steps(tmp_path / "out", num_steps)
        fault(driver, tmp_path / "out.log", cluster.pid if where else driver.pid)
        if fault is not kill_worker:
            time.sleep(5)
            driver = start(place, tmp_path / "out", **where)
    assert driver.wait(timeout=240) == 0
    assert losses(tmp_path / "out") == losses(whole)


@pytest.mark.timeout(400)
def test_a_training_on_a_store_killed_in_the_middle_is_the_one_on_a_disk(
    cluster: Cluster, whole: Path, place: Path, bucket: str, tmp_path: Path
) -> None:
    store = stored(bucket)
    publish(shutil.copytree(place / "data", tmp_path / "data"), store / "data")
    arguments = ["train", str(place / "recipe.yaml"), "--data", f"{bucket}/data"]
    arguments += ["--output", f"{bucket}/out"]
    log = tmp_path / "log"
    driver = command(arguments, log, RAY_ADDRESS=cluster.address)
    wait_for_steps(store / "out", 12)
    driver.kill()
    driver.wait()
    assert not names(store / "out" / "editor")
    driver = command(arguments, log, RAY_ADDRESS=cluster.address)
    assert driver.wait(timeout=240) == 0, log.read_text()
    assert losses(store / "out") == losses(whole)
    assert edit(ReasonEditPipeline.from_pretrained(f"{bucket}/out/editor")) == edit(
        ReasonEditPipeline.from_pretrained(whole / "editor")
    )
    there = names(store / "out")
    assert there == sorted([*names(whole), "features"])
    assert names(store / "out" / "samples") == names(whole / "samples")
    assert names(store / "out" / "editor") == names(whole / "editor")
    assert len(names(store / "out" / "tensorboard")) == 2  # each process has a file of its own
    card = (store / "out" / "editor" / "README.md").read_text()
    assert card == (whole / "editor" / "README.md").read_text()
    assert len([name for name in names(store / "out" / "run") if "checkpoint_2" in name]) == 2


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_a_store_that_is_away_for_a_while_stops_no_training(
    cluster: Cluster, whole: Path, place: Path, store: Store, bucket: str, tmp_path: Path
) -> None:
    output, log = stored(bucket) / "out", tmp_path / "log"
    arguments = ["train", str(place / "recipe.yaml"), "--data", str(place / "data")]
    arguments += ["--output", str(output), "--features", str(place / "features")]
    driver = command(arguments, log, RAY_ADDRESS=cluster.address)
    wait_for_steps(output, 5)
    before = store.num_refused
    with store.away():
        time.sleep(20)
    assert store.num_refused > before
    assert driver.wait(timeout=240) == 0, log.read_text()
    assert losses(output) == losses(whole)
    assert ReasonEditPipeline.from_pretrained(str(output / "editor"))


@pytest.mark.nightly  # as without Ray, in test_sharding.py
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_workers_learn_what_one_does(
    cluster: Cluster, whole: Path, place: Path, tmp_path: Path, parallel: str
) -> None:
    settings = ["num_workers=2", "micro_batch_size=2", f"parallel={parallel}"]
    settings = [f"editor.machines.{each}" for each in settings]
    driver = start(place, tmp_path / "out", *settings, RAY_ADDRESS=cluster.address)
    assert driver.wait(timeout=280) == 0
    ours, theirs = losses(tmp_path / "out"), losses(whole)
    assert ours.keys() == theirs.keys()
    assert all(abs(ours[key] - theirs[key]) < 1e-4 for key in ours)
    assert len(list((tmp_path / "out" / "samples").glob("step-*.png"))) == 2
    unets = [
        ReasonEditPipeline.from_pretrained(output / "editor").unet.state_dict()
        for output in (tmp_path / "out", whole)
    ]
    assert all(torch.allclose(unets[0][name], unets[1][name], atol=1e-3) for name in unets[1])


def refused(
    capsys: pytest.CaptureFixture[str], place: Path, output: Place, *options: str | Path
) -> str:
    """The message of a training that stops; of an option given twice the last one counts."""
    arguments = ["train", place / "recipe.yaml", "--data", place / "data", "--output", output]
    assert call([str(each) for each in (*arguments, *options)]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parts", "III"], "no accepted sample"),
        (["--parts", "I,IV"], "parts IV: unknown"),
        (["--output", "http://host/there"], "output http://host/there: expected a folder or a URI"),
        (["--features", "http://host/it"], "features http://host/it: expected a folder or a URI"),
        (["--data", "http://host/there"], "data http://host/there: expected a folder or a URI"),
        (
            ["--set", "editor.machines.num_workers=3"],
            "batch_size 4 does not divide by machines.num_workers 3",
        ),
        (
            ["--set", "editor.connector={kind: resampler, num_heads: 7}"],
            "num_heads 7: must divide 64",
        ),
        (["--set", "editor.validation_fraction=1"], "editor.validation_fraction"),
        (
            ["--set", "editor.validation_fraction=0", "--set", "editor.early_stop=3"],
            "editor: early_stop: nothing is held out",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert message in refused(capsys, place, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_an_editor_is_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load((RECIPES / "mini.yaml").read_text())
    del content["editor"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    message = refused(capsys, tmp_path, tmp_path / "out", "--data", place / "data")
    assert "no section editor" in message


def test_a_folder_without_a_dataset_is_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, place, tmp_path / "out", "--data", tmp_path)
    assert "no complete output" in message


def test_a_record_that_cannot_be_read_is_said(
    ray_session: None, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable = tiny_base.sample(0, input_image={"bytes": b"no picture", "path": "a.png"})
    data = tiny_base.data(tmp_path / "data", [unreadable])
    message = refused(capsys, place, tmp_path / "out", "--data", data)
    assert "record I/toy/0000/0: input_image: a.png" in message


@pytest.mark.parametrize("where", ["folder", "store"])
def test_an_output_that_another_training_writes_is_said(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    where: str,
) -> None:
    text = request.getfixturevalue("bucket") if where == "store" else str(tmp_path)
    output = stored(text) / "out"
    with session(output / SESSIONS, output):
        assert f"output {output}: another run" in refused(capsys, place, output)


@pytest.mark.nightly
def test_a_training_that_was_taken_for_dead_writes_no_more(
    cluster: Cluster, place: Path, bucket: str, tmp_path: Path
) -> None:
    output, log = stored(bucket) / "out", tmp_path / "log"
    arguments = ["train", str(place / "recipe.yaml"), "--data", str(place / "data")]
    arguments += ["--output", str(output), "--features", str(place / "features")]
    driver = command(arguments, log, RAY_ADDRESS=cluster.address)
    wait_for_steps(output, 5)
    number = last_session(output / SESSIONS)
    token = (output / SESSIONS / "sessions" / f"{number:06}.json").read_bytes()
    assert create(output / SESSIONS / "sessions" / f"{number + 1:06}.json", token + b" ")
    assert driver.wait(timeout=240) == 1
    assert "has taken over" in log.read_text()
    assert not names(output / "editor")


def test_features_that_another_training_computes_are_said(
    place: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = next((place / "features").glob("*/features.json")).parent.name
    shared = tmp_path / "shared"
    with session(shared / key / SESSIONS, shared / key):
        message = refused(capsys, place, tmp_path / "out", "--features", shared)
    assert f"shared/{key}: another run is writing" in message


def test_features_alone_are_those_that_a_training_computes_first(
    ray_session: None,
    place: Path,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["features", str(place / "recipe.yaml"), "--data", str(place / "data"), "--output"]
    assert call([*line, str(tmp_path)]) == 0
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert capsys.readouterr().out == f"{folder}\n"
    theirs = place / "features"
    ours = {path.relative_to(tmp_path) for path in folder.rglob("*.arrow")}
    assert ours == {path.relative_to(theirs) for path in theirs.rglob("*.arrow")}
    assert call([*line, str(place / "features")]) == 0
    assert "complete, nothing to do" in capsys.readouterr().err
    assert call([*line, str(tmp_path), "--set", "editor.features=online"]) == 2
    assert "editor.features online: a training keeps none" in capsys.readouterr().err


def test_a_training_does_not_go_on_with_other_settings(
    place: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, place, whole, "--set", "editor.learning_rate=0.5")
    assert "editor.learning_rate" in message


def test_other_data_at_the_same_place_is_not_gone_on_with(whole: Path, place: Path) -> None:
    recipe = load(place / "recipe.yaml")
    check_settings(whole, recipe, place / "data", ["I"])
    manifest = place / "data" / "manifest.json"
    kept = manifest.read_text()
    manifest.write_text(f"{kept} ")
    try:
        with pytest.raises(UserError, match=r"different: data\.content; give another"):
            check_settings(whole, recipe, place / "data", ["I"])
    finally:
        manifest.write_text(kept)


def test_settings_may_change_until_there_is_a_checkpoint(place: Path, tmp_path: Path) -> None:
    recipes = [load(place / "recipe.yaml", [f"editor.learning_rate={rate}"]) for rate in (1, 2, 3)]
    check_settings(tmp_path, recipes[0], place / "data", ["I"])
    for name in ("run", "features", "tensorboard"):
        (tmp_path / name).mkdir()
    check_settings(tmp_path, recipes[1], place / "data", ["I"])
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["features", "training.json"]
    (tmp_path / "run" / "checkpoint_1").mkdir(parents=True)
    check_settings(tmp_path, recipes[1], place / "data", ["I"])
    with pytest.raises(UserError, match=r"different: editor\.learning_rate"):
        check_settings(tmp_path, recipes[2], place / "data", ["I"])


def test_what_decides_no_step_may_change_at_any_time(place: Path, tmp_path: Path) -> None:
    check_settings(tmp_path, load(place / "recipe.yaml"), place / "data", ["I"])
    (tmp_path / "run" / "checkpoint_1").mkdir(parents=True)
    others = ["machines.checkpoint_every=9", "validation.validate_every=9", "output.loggers=[]"]
    changed = load(place / "recipe.yaml", [f"editor.{each}" for each in others])
    check_settings(tmp_path, changed, place / "data", ["I"])

"""The cache of features: its content, its key, and what is said of a damaged one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
import tiny_base
from PIL import ImageOps

from reasonray.core import images
from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.core.place import place as stored
from reasonray.core.record import PARTS, Part
from reasonray.core.sections import ModelConfig
from reasonray.core.writing import publish
from reasonray.editor import features, frozen, model
from reasonray.editor.conditioning import multimodal_states
from reasonray.editor.online import Online
from reasonray.editor.pairs import pairs

EVERY = [(index, number) for index in range(20) for number in range(2)]


def test_every_record_has_features_of_its_shape(
    samples: features.Features, config: EditorConfig
) -> None:
    assert len(samples.ids) == len(set(samples.ids)) == 20
    for sample in samples.take([(index, k) for index in range(20) for k in (0, 1)]):
        assert (
            sample.source.shape
            == sample.target.shape
            == samples.shapes[samples.ids.index(sample.id)]
        )
        assert sample.reasoning.shape[1] == samples.null.shape[1] == 128
        assert sample.taught is not None
        assert len(sample.taught) == 24
    assert samples.shapes[:4] == [(4, 16, 20), (4, 16, 16), (4, 24, 16), (4, 16, 20)]
    short, long = samples.take([(0, 0), (2, 0)])
    assert len(long.reasoning) > len(short.reasoning)


def test_a_side_that_is_named_is_not_mirrored(
    config: EditorConfig, place: Path, tmp_path: Path
) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"instruction": "Show what the left one makes."}, {"edited_caption": "right of a bee"},
        {"direct_instruction": "Turn it clockwise"}, {"instruction": "She left; show it brightly."},
    ]  # fmt: skip
    rows = [
        {**tiny_base.sample(number, **each), "box": None} for number, each in enumerate(changes)
    ]
    for row, mirrored in zip(rows, (True, False, False, False, False), strict=True):
        plain, flipped = (
            pairs(row, range(1, 2), config.model_copy(update={"flip": flip}))[0]
            for flip in (False, True)
        )
        assert (ImageOps.mirror(plain.source) == flipped.source) == mirrored
        assert (plain.source == flipped.source) != mirrored
    assert (
        pairs(rows[0], range(1), config)[0].source
        == pairs(rows[0], range(1), config.model_copy(update={"flip": False}))[0].source
    )


def test_wordings_of_one_edit_are_taught_alike_and_heard_as_they_are(config: EditorConfig) -> None:
    """Alignment's truth is one for all of them: the states hold what is said, not how."""
    sentences = (
        "Turn the bee into some honey",
        "put some honey where the bee is",
        "Make the bee glow",
    )
    [first, second, other] = (
        pairs({**tiny_base.sample(0, direct_instruction=each), "box": None}, range(1), config)[0]
        for each in sentences
    )
    said, reworded, kept = frozen.Frozen(config).samples([first, second, other])
    taught = [each.taught.tolist() for each in (said, reworded, kept) if each.taught is not None]
    assert taught[0] == taught[1]
    assert taught[0] != taught[2]
    assert not np.array_equal(said.direct, reworded.direct)


def test_the_picture_s_states_are_stored_once(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    every = config.model_copy(update={"tokens": "all"})
    whole = tiny_base.cached(every, data, tmp_path / "features")
    [sample] = whole.take([(0, 0)])
    assert len(sample.picture) >= 16
    [table] = [
        pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        for path in (tmp_path / "features").glob("*-00000.arrow")
    ]
    names = ("picture", "reasoning", "direct")
    stored = sum(len(table[name][0].as_py()) for name in names) // sample.picture.itemsize
    assert stored == sum(getattr(sample, name).size for name in names)
    record = tiny_base.sample(0)
    assert record["input_image"] is not None
    seen = images.decode(record["input_image"])
    models = frozen.Frozen(every)
    crop = pairs({**record, "box": None}, range(1), every)[0].seen
    assert crop.size == seen.size == (40, 32)
    states, _ = multimodal_states(
        models.mllm, models.processor, [crop], [str(record["instruction"])], "all"
    )
    condition = np.concatenate(sample.condition(reasoning=True))
    assert np.allclose(condition, states[0].numpy(), atol=2e-3)


def test_another_model_or_dataset_or_preprocessing_is_another_cache(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    first = features.key(config, data, ["I"])
    assert first == features.key(config, data, ["I"])
    others = [
        config.model_copy(update={"image_size": 64}),
        config.model_copy(update={"tokens": "all"}),
        config.model_copy(update={"flip": False}),
        config.model_copy(update={"num_crops": 3}),
        config.model_copy(update={"alignment_steps": 0}),
        config.model_copy(update={"mllm": config.base}),
        config.model_copy(update={"vae": config.base}),
    ]
    keys = [features.key(other, data, ["I"]) for other in others]
    more = tiny_base.data(tmp_path / "more", [tiny_base.sample(number) for number in range(21)])
    keys += [features.key(config, data, ["I", "II"]), features.key(config, more, ["I"])]
    assert len({first, *keys}) == len(keys) + 1
    again = config.model_copy(update={"learning_rate": 1.0})
    assert features.key(tiny_base.with_micro_batches(again, 1), data, ["I"]) == first


def test_a_model_changed_in_its_folder_is_another_cache(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(config.base.name, tmp_path / "base")
    moved = config.model_copy(update={"base": ModelConfig(name=str(folder))})
    first = features.key(moved, data, ["I"])
    for part, counts in (("unet", False), ("vae", True)):
        [path] = (folder / part).glob("*.safetensors")
        path.touch()
        assert (features.key(moved, data, ["I"]) != first) == counts


def test_features_on_a_store_are_those_on_a_disk(
    config: EditorConfig,
    data: Path,
    samples: features.Features,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dataset, models and cache; whichever machine asks."""
    store = stored(bucket)
    models = {
        "base": ModelConfig(name=f"{bucket}/base"),
        "mllm": ModelConfig(name=f"{bucket}/mllm"),
    }
    for name in models:
        publish(shutil.copytree(getattr(config, name).name, tmp_path / name), store / name)
    publish(shutil.copytree(data, tmp_path / "data"), store / "data")
    remote = config.model_copy(update=models)
    theirs = tiny_base.cached(remote, store / "data", store / "features")
    assert theirs.ids == samples.ids
    for ours, other in zip(theirs.take(EVERY), samples.take(EVERY), strict=True):
        assert np.array_equal(ours.source, other.source)
        assert np.array_equal(ours.reasoning, other.reasoning)
    assert features.pinned(remote, store / "features") == remote
    keys = {features.key(remote, store / "data", ["I"])}
    monkeypatch.setenv("REASONRAY_CACHE", str(tmp_path / "another machine"))
    keys.add(features.key(remote, store / "data", ["I"]))
    assert len(keys) == 1
    (store / "base" / "vae" / "config.json").write_text(
        (store / "base" / "vae" / "config.json").read_text() + " "
    )
    assert features.key(remote, store / "data", ["I"]) not in keys
    online = Online(config, store / "data", ["I"])
    assert np.array_equal(online.take([(3, 1)])[0].source, samples.take([(3, 1)])[0].source)


HUB = """
import sys
from pathlib import Path
import tiny_base
from reasonray.editor import features
from reasonray.core.editor_sections import EditorConfig

config, (data, folder) = EditorConfig.model_validate_json(sys.argv[1]), map(Path, sys.argv[2:])
tiny_base.cached(config, data, folder)
pinned = features.pinned(config, folder)
print(pinned.base.revision, pinned.mllm.revision)
"""


@pytest.mark.slow
def test_training_loads_the_commits_that_the_features_were_computed_with(
    config: EditorConfig, data: Path, tmp_path: Path
) -> None:
    commits = {"base": "0" * 40, "mllm": "1" * 40}
    for name, commit in commits.items():
        cached = tmp_path / f"hub/models--me--{name}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs/main").write_text(commit)
        (cached / "snapshots").mkdir()
        (cached / "snapshots" / commit).symlink_to(Path(getattr(config, name).name))
    models = {name: ModelConfig(name=f"me/{name}") for name in commits}
    hub = config.model_copy(update=models).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", HUB, hub, str(data), str(tmp_path / "features")],
        env={
            **os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(commits.values())


def test_a_vae_of_its_own_stands_in_for_the_bases(
    config: EditorConfig, data: Path, samples: features.Features, tmp_path: Path
) -> None:
    base = Path(config.base.name)
    without = tmp_path / "base"
    shutil.copytree(base, without, ignore=shutil.ignore_patterns("vae"))
    parts = {"base": ModelConfig(name=str(without)), "vae": ModelConfig(name=str(base / "vae"))}
    same = tiny_base.cached(config.model_copy(update=parts), data, tmp_path / "features")
    for ours, theirs in zip(same.take(EVERY), samples.take(EVERY), strict=True):
        assert np.array_equal(ours.source, theirs.source)
    with pytest.raises(UserError, match="/vae: no AutoencoderKL"):
        model.load_vae(config.model_copy(update={"base": parts["base"]}))


def test_bad_features_are_one_clear_message(
    config: EditorConfig, data: Path, samples: features.Features, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no finished features"):
        features.Features(tmp_path)
    made = tiny_base.cached(config, data, tmp_path / "features")
    path = next((tmp_path / "features").glob("*-00000.arrow"))
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    bad_column = pa.array([b"123456"] * len(table), pa.large_binary())
    spoilt = table.set_column(2, "source", bad_column)
    assert made.ids
    with pa.ipc.new_file(str(tmp_path / "spoilt"), spoilt.schema) as sink:
        sink.write_table(spoilt)
    (tmp_path / "spoilt").replace(path)
    broken = features.Features(tmp_path / "features")
    with pytest.raises(UserError, match=r"I/toy/0000/0: source has 3 values"):
        broken.take([(0, 0)])
    rows = [tiny_base.sample(0, input_image={"bytes": b"no picture", "path": "a.png"})]
    bad = tiny_base.data(tmp_path / "bad", rows)
    chunk = features.chunks(bad, ["I"], tmp_path)[0]
    with pytest.raises(UserError, match=r"record I/toy/0000/0: input_image: a\.png"):
        features.write_chunk(chunk, frozen.Frozen(config), 4)
    assert not list(tmp_path.glob("*.arrow"))


@pytest.mark.parametrize("pattern", ["features.json", "*-00000.arrow"])
def test_a_damaged_cache_is_one_clear_message(
    config: EditorConfig, samples: features.Features, place: Path, tmp_path: Path, pattern: str
) -> None:
    folder = shutil.copytree(place / "features", tmp_path / "copy")
    assert features.Features(folder).ids == samples.ids
    [path] = folder.glob(pattern)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"damaged .*; delete this folder and run again"):
        features.Features(folder)
    if path.name == features.INFO:
        with pytest.raises(UserError, match="damaged"):
            features.pinned(config, folder)
    path.unlink()
    with pytest.raises(UserError, match=r"damaged|no finished features"):
        features.Features(folder)


def in_parts(folder: Path) -> Path:
    """A dataset of three parts, of which no crop keeps one record's edit."""
    rows = [tiny_base.sample(number, PARTS[number // 6]) for number in range(18)]
    large = images.encode_png(PIL.Image.new("RGB", (96, 32)))
    lost = {"input_image": large, "edited_image": large, "box": [2.0, 0.0, 90.0, 32.0]}
    rows[3] = tiny_base.sample(3, "I", **lost)
    return tiny_base.data(folder, rows)


@pytest.mark.parametrize("parts", [["I"], ["III"], ["I", "II"]])
def test_of_a_cache_of_all_parts_some_are_taken_as_from_one_of_their_own(
    config: EditorConfig, tmp_path: Path, parts: list[Part]
) -> None:
    data = in_parts(tmp_path / "data")
    tiny_base.cached(config, data, tmp_path / "whole", PARTS)
    own = tiny_base.cached(config, data, tmp_path / "own", parts)
    taken = features.Features(tmp_path / "whole", parts)
    assert taken.ids == own.ids
    assert {name.partition("/")[0] for name in taken.ids} == set(parts)
    assert (taken.origins, taken.groups, taken.shapes) == (own.origins, own.groups, own.shapes)
    assert taken.left_out == own.left_out == (["I/toy/0003/0"] if "I" in parts else [])
    every = [(index, number) for index in range(len(own.ids)) for number in range(2)]
    for ours, theirs in zip(taken.take(every), own.take(every), strict=True):
        assert ours.id == theirs.id
        for name in ("source", "target", "picture", "reasoning", "direct", "taught"):
            assert np.allclose(getattr(ours, name), getattr(theirs, name), atol=2e-3)


def test_a_finished_cache_of_more_parts_is_taken_and_no_other(
    config: EditorConfig, tmp_path: Path
) -> None:
    data, shared = in_parts(tmp_path / "data"), tmp_path / "features"

    def finish(*parts: Part) -> Path:
        folder = shared / features.key(config, data, parts)
        folder.mkdir(parents=True)
        (folder / features.INFO).write_text("{}")
        return folder

    own = shared / features.key(config, data, ["I"])
    whole = shared / features.key(config, data, PARTS)
    whole.mkdir(parents=True)
    finish("II", "III")
    # Not while it is being computed.
    assert features.folder_of(shared, config, data, ["I"]) == own
    assert finish("I", "III") == features.folder_of(shared, config, data, ["I"])
    (whole / features.INFO).write_text("{}")
    assert whole == features.folder_of(shared, config, data, ["I", "II"])
    assert finish("I") == features.folder_of(shared, config, data, ["I"]) == own
    other = config.model_copy(update={"image_size": 64})
    assert not features.folder_of(shared, other, data, ["I"]).exists()

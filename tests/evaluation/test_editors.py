"""Editors under test by their specs: what is loaded, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_editor

from reasonray.core.errors import UserError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.place import place
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.evaluation.editors import Pipeline, Spec, load, parse, weights_version


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NoSuchClass:/tmp", "editor b: diffusers has no class NoSuchClass"),
        ("/nowhere", "editor b: /nowhere: no pipeline of diffusers could be loaded"),
        ("python:nowhere:make", "expected python:MODULE:NAME"),
        ("python:toy_editors:nobody", "expected python:MODULE:NAME"),
        ("python:toy_editors:no_editor", r"no_editor\(\) has no method edit\("),
        ("pictures:/nowhere", "/nowhere"),
    ],
)
def test_what_is_no_editor_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(Spec("b", text), EvaluationConfig())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a b=truth", "=truth", "a/b=truth", "a="])
def test_a_name_is_one_that_a_file_may_have(text: str) -> None:
    with pytest.raises(UserError, match="expected NAME=SPEC"):
        parse(text)


def test_what_needs_no_name_has_its_own() -> None:
    assert parse("identity") == Spec("identity", "identity")
    assert parse("a=http://host/v1#model=x") == Spec("a", "http://host/v1#model=x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("editor")
    parts: dict[str, Any] = tiny_editor.text_parts()
    pipe = ReasonEditPipeline(
        vae=tiny_editor.vae(),
        unet=tiny_editor.unet(),
        scheduler=tiny_editor.scheduler(),
        **parts,
    )
    pipe.save_pretrained(path)
    return path


def loaded(folder: Path, **arguments: dict[str, Any]) -> Pipeline:
    every = {"num_inference_steps": 1, "taken_by_others": 3}
    config = EvaluationConfig(side=32, batch_size=2, arguments={"*": every, **arguments})
    pipeline = load(Spec("b", str(folder)), config)
    assert isinstance(pipeline, Pipeline)
    return pipeline


@pytest.mark.slow
def test_a_batch_of_several_sizes_is_as_each_alone_and_keeps_them(folder: Path) -> None:
    pipeline = loaded(folder)
    sizes = [(40, 32), (64, 64), (32, 40), (40, 32), (64, 64), (40, 32)]
    pictures = [tiny_editor.picture(seed, size) for seed, size in enumerate(sizes)]
    texts = [f"edit {number}" for number in range(len(sizes))]
    together = pipeline.edit(pictures, texts, range(6))
    assert [picture.size for picture in together] == sizes
    for number, picture in enumerate(together):
        [alone] = pipeline.edit([pictures[number]], [texts[number]], [number])
        pairs = zip(picture.tobytes(), alone.tobytes(), strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 1


@pytest.mark.slow
def test_an_argument_that_a_pipeline_does_not_take_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation\.arguments\.b\.strength: ReasonEditPipeline"):
        loaded(folder, b={"strength": 0.5})


@pytest.mark.parametrize("prefix", ["", "StableDiffusionInstructPix2PixPipeline:"])
def test_an_editor_that_was_trained_anew_at_its_place_is_another(
    tmp_path: Path, prefix: str
) -> None:
    weights = tmp_path / "editor/unet/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"1" * 200_000)
    spec = parse(f"mine={prefix}{tmp_path}/editor")
    before = weights_version(spec)
    assert before
    shutil.copytree(tmp_path / "editor", tmp_path / "copy")
    assert weights_version(parse(f"other={tmp_path}/copy")) == before
    (tmp_path / "editor/README.md").write_text("A card.")
    weights.write_bytes(b"1" * 200_000)
    assert weights_version(spec) == before
    for anew in (b"2" + b"1" * 199_999, b"1" * 199_999 + b"2", b"1" * 200_001):
        weights.write_bytes(anew)
        assert weights_version(spec) != before


def test_an_editor_on_a_store_is_known_by_what_lies_there(bucket: str) -> None:
    weights = place(f"{bucket}/editor/unet.safetensors")
    spec = parse(f"mine={bucket}/editor")
    versions = set()
    for content in (b"1", b"2", b"2"):
        weights.write_bytes(content)
        versions.add(weights_version(spec))
    assert len(versions) == 2


@pytest.mark.parametrize(
    "text",
    ["truth", "a=pictures:.", "a=python:os:getcwd", "a=http://host/v1", "a=https://host/v1#m",
     "a=timbrooks/instruct-pix2pix"],
)  # fmt: skip
def test_what_lies_in_no_folder_has_no_version(text: str) -> None:
    assert weights_version(parse(text)) is None


def test_an_editor_s_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unet.safetensors").write_bytes(b"1")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "unet.safetensors")  # as to who is not root

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"editor mine: .*cannot be read .*unet\.safetensors"):
        weights_version(Spec("mine", str(tmp_path)))

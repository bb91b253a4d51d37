"""The tiny editor that the package has: kept small, written whole."""

from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file

from reasonray.cli.main import call
from reasonray.core.errors import UserError
from reasonray.core.place import place as stored
from reasonray.core.place import versions
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.mini.editor import CHANGES, EDITOR, UNET, keep, write

pytestmark = pytest.mark.zoo


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's editor as a folder."""
    folder = tmp_path_factory.mktemp("editor") / "editor"
    write(folder)
    return folder


def test_the_package_s_editor_is_small_and_a_pipeline_like_any_other(written: Path) -> None:
    assert (EDITOR / CHANGES).stat().st_size < 3.5e6
    pipe: Any = ReasonEditPipeline.from_pretrained(written)
    pipe.set_progress_bar_config(disable=True)
    picture = PIL.Image.new("RGB", (96, 96), "white")
    edited = pipe(image=picture, instruction="Turn the bee into some honey", num_inference_steps=2)
    assert edited.images[0].size == (96, 96)
    assert "Mini zoo: editor" in (written / "README.md").read_text()


def test_what_is_kept_whole_comes_back_and_in_less_room_the_largest_changes(
    written: Path, tmp_path: Path
) -> None:
    trained = load_file(written / UNET)
    generator = torch.Generator().manual_seed(0)
    name = "mid_block.resnets.0.conv1.weight"
    rank_one = torch.randn(112, 1, generator=generator) @ torch.randn(1, 1008, generator=generator)
    trained[name] = trained[name] + 0.01 * rank_one.view(112, 112, 3, 3)
    save_file(trained, written / UNET)
    errors = []
    for place, room in enumerate((10**9, 2_000_000)):
        keep(written, tmp_path / str(place), room)
        (tmp_path / str(place) / "README.md").write_text("A card.")
        write(tmp_path / f"{place}-whole", tmp_path / str(place))
        back = load_file(tmp_path / f"{place}-whole" / UNET)
        changes = [(back[key].float() - value.float()).norm() for key, value in trained.items()]
        errors.append(max(changes))
        # What the training of the editor itself has changed there is smaller, and may go.
        assert (back[name] - trained[name]).norm() < 0.3 * (0.01 * rank_one).norm()
    assert errors[0] < 0.02
    assert errors[0] < errors[1]
    smaller = (tmp_path / "1" / CHANGES).stat().st_size
    assert smaller < 3e6 < (tmp_path / "0" / CHANGES).stat().st_size


def test_only_an_editor_of_the_zoo_s_is_kept_and_nothing_is_written_over(
    written: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="not an editor of"):
        keep(tmp_path, tmp_path / "zoo")
    with pytest.raises(UserError, match="is there already"):
        write(written)


def test_it_is_written_to_a_store_as_to_a_disk(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "editor")
    assert call(["mini", "editor", "--output", f"{bucket}/editor"]) == 0
    assert capsys.readouterr().out.strip() == f"{bucket}/editor"
    theirs, ours = versions(stored(bucket) / "editor"), versions(tmp_path / "editor")
    assert [each[:2] for each in theirs] == [each[:2] for each in ours]
    capsys.readouterr()
    assert call(["mini", "editor", "--output", f"{bucket}/editor"]) == 2
    assert f"--output {bucket}/editor: is there already" in capsys.readouterr().err

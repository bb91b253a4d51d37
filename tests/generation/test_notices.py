from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_outputs import first
from toy_stages import Plan, recipe

from reasonray.core.recipe import load
from reasonray.core.record import Row
from reasonray.generation.notices import (
    other_languages,
    read_notices,
    tiny_models,
)
from reasonray.generation.plan import write_plan
from reasonray.generation.workspace import Workspace


def test_the_mini_models_on_photographs_are_said_with_their_stages() -> None:
    [notice] = tiny_models(load("mini", sources=["folder=/photos"]), {"III"})
    assert "caption, ground, propose, paint, quality are the tiny ones" in notice
    [notice] = tiny_models(load("mini", sources=["mini=4", "instructpix2pix=/pairs"]), {"I"})
    assert "the models of rewrite, select, quality are" in notice


@pytest.mark.parametrize(
    ("name", "settings", "source"),
    [("mini", [], "mini=4"), ("paper", [], "folder=/photos")],
)
def test_models_where_they_belong_are_not_said(name: str, settings: list[str], source: str) -> None:
    assert tiny_models(load(name, settings, sources=[source]), {"I", "II", "III"}) == []


def test_only_models_that_have_work_are_said() -> None:
    settings = ["language_model.backend=openai", "language_model.model.name=some"]
    made = load("mini", settings, sources=["instructpix2pix=/pairs"])
    assert "the models of quality are" in tiny_models(made, {"I"})[0]
    assert "of caption, ground, paint, quality are" in tiny_models(made, {"II"})[0]


def test_they_are_kept_with_the_plan(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    assert read_notices(workspace) == []
    notices: list[str] = []

    def rows() -> Iterator[Row]:
        yield from Plan(2)(recipe(), Path())
        notices.append("3 files are passed over")

    write_plan(workspace, first(workspace), recipe(), rows(), notices)
    assert read_notices(workspace) == ["3 files are passed over"]


def test_captions_in_other_languages_are_said_with_a_count_and_an_example(tmp_path: Path) -> None:
    captions = ["ein Schaf auf einer Wiese", "a sheep in a meadow", None]
    plan: list[Row] = [
        {"id": f"III/toy/{i}/0", "part": "III", "input_caption": text}
        for i, text in enumerate(captions)
    ]
    workspace = Workspace(tmp_path / "out")
    write_plan(workspace, first(workspace), recipe(), plan)
    [notice] = read_notices(workspace)
    assert notice.startswith("1 of 2 captions")
    assert "'ein Schaf auf einer Wiese': captions must be English" in notice
    assert other_languages(["a sheep in a meadow"]) == []

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from toy_stages import Plan, recipe

from reasonray.core.errors import UserError
from reasonray.generation.plan import planned_ids, planned_parts, write_plan
from reasonray.generation.workspace import Workspace


def test_a_plan_holds_every_row_with_the_parts_interleaved(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    plan = list(Plan(4)(recipe(), Path()))
    assert write_plan(workspace, recipe(), plan) == 12
    written = pq.read_table(workspace.plan_folder)
    assert sorted(written["id"].to_pylist()) == planned_ids(workspace).to_pylist()
    assert sorted(written["part"].to_pylist()[:3]) == ["I", "II", "III"]
    assert planned_parts(workspace) == {"I": 4, "II": 4, "III": 4}
    assert workspace.recipe() == recipe().model_dump(mode="json")


def test_two_inputs_of_one_id_are_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    plan = [*Plan(3)(recipe(), Path()), *Plan(1)(recipe(), Path())]
    with pytest.raises(UserError, match="two inputs have the same id I/toy/0000/0"):
        write_plan(workspace, recipe(), plan)
    assert not workspace.plan_folder.exists()


def test_no_inputs_are_the_user_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no inputs found for parts I, II, III"):
        write_plan(Workspace(tmp_path / "out"), recipe(), [])

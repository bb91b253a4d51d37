from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_outputs import first
from toy_stages import Plan, recipe

from reasonray.core.errors import UserError
from reasonray.core.place import parquet
from reasonray.core.session import Session
from reasonray.generation.plan import (
    candidate_ids,
    extend_plan,
    plan_files,
    planned_ids,
    planned_parts,
    write_input,
    write_plan,
)
from reasonray.generation.workspace import Workspace


def test_a_plan_holds_every_row_with_the_parts_interleaved(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    plan = list(Plan(4)(recipe(), Path()))
    assert write_plan(workspace, first(workspace), recipe(), plan) == 12
    written = pq.read_table(plan_files(workspace))
    assert written["id"].to_pylist() == planned_ids(workspace).to_pylist()
    assert sorted(written["part"].to_pylist()[:3]) == ["I", "II", "III"]
    assert planned_parts(workspace) == {"I": 4, "II": 4, "III": 4}
    assert workspace.recipe() == recipe().model_dump(mode="json")
    # Of one part nearly all is done: its last row is to do still.
    done = [row["id"] for row in plan if row["part"] == "I"][:3]
    assert planned_parts(workspace, pa.array(done)) == {"I": 1, "II": 4, "III": 4}
    assert planned_parts(workspace, pa.array([], pa.string())) == planned_parts(workspace)


def test_a_run_to_so_many_samples_plans_the_next_inputs_of_one_order(tmp_path: Path) -> None:
    made = recipe(accepted=5, variations=2)
    workspace = Workspace(tmp_path / "out")
    assert write_plan(workspace, first(workspace), made, Plan(4)(made, Path())) == 5
    order = candidate_ids(workspace).to_pylist()
    assert len(order) == 24
    assert {row_id.partition("/")[0] for row_id in order[:6:2]} == {"I", "II", "III"}
    assert [row_id[:-2] for row_id in order[::2]] == [row_id[:-2] for row_id in order[1::2]]
    assert sorted(planned_ids(workspace).to_pylist()) == sorted(order[:5])
    assert extend_plan(workspace, 7) == 7
    assert sorted(planned_ids(workspace).to_pylist()) == sorted(order[:12])
    assert extend_plan(workspace, 100) == 12
    assert extend_plan(workspace, 1) == 0
    assert sorted(planned_ids(workspace).to_pylist()) == sorted(order)
    other = Workspace(tmp_path / "other")
    backwards = reversed(list(Plan(4)(made, Path())))
    write_plan(other, first(other), recipe(accepted=9, variations=2), backwards)
    assert candidate_ids(other).to_pylist() == order


def test_two_inputs_of_one_id_are_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    plan = [*Plan(3)(recipe(), Path()), *Plan(1)(recipe(), Path())]
    with pytest.raises(UserError, match="two inputs have the same id I/toy/0000/0"):
        write_plan(workspace, first(workspace), recipe(), plan)
    assert workspace.plan_folder is None


def test_no_inputs_are_the_user_s_mistake(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    with pytest.raises(UserError, match="no inputs found for parts I, II, III"):
        write_plan(workspace, first(workspace), recipe(), [])


def test_what_is_done_is_left_out_of_a_session_s_input(bucket: str) -> None:
    workspace = Workspace(bucket)
    plan = list(Plan(4)(recipe(), Path()))
    write_plan(workspace, first(workspace), recipe(), plan)
    folder = workspace.folder / "input"
    assert write_input(workspace, folder, pa.array([], pa.string())) == plan_files(workspace)
    ids = [row["id"] for row in plan]
    [left] = write_input(workspace, folder, pa.array(ids[3:]))
    table = parquet(left).read()
    assert sorted(table["id"].to_pylist()) == sorted(ids[:3])
    assert table.schema.names == parquet(plan_files(workspace)[0]).read().schema.names
    assert write_input(workspace, folder, pa.array(ids)) == []


def test_a_plan_is_of_one_session_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    early, late = (Session(workspace.output, workspace.folder, number) for number in (1, 2))
    write_plan(workspace, late, recipe(), Plan(4)(recipe(), Path()))
    with pytest.raises(UserError, match="another run has planned here meanwhile"):
        write_plan(workspace, early, recipe(seed=8), Plan(2)(recipe(), Path()))
    assert len(planned_ids(workspace)) == 12
    assert workspace.recipe() == recipe().model_dump(mode="json")

from pathlib import Path

import pytest
from toy_outputs import published
from toy_stages import Build, Plan, recipe

from reasonray.dataset.manifest import read_manifest
from reasonray.generation.run import run
from reasonray.stages.paint import Paint


# Ray warns of its own deprecations.
@pytest.mark.filterwarnings("default")
def test_a_stage_that_reads_what_nobody_has_written_ends_a_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Paint, "reads", {"brush": "its width in pixels"})
    with pytest.raises(AssertionError, match="stage paint: reads brush"):
        run(recipe(), tmp_path, build=Build(), plan=Plan(3))


def test_what_a_run_killed_at_its_very_end_left_is_removed(tmp_path: Path) -> None:
    published(tmp_path / "out")
    assert (tmp_path / "out/.run/plan").exists()
    assert run(recipe(), tmp_path / "out") == read_manifest(tmp_path / "out")
    assert not (tmp_path / "out/.run").exists()

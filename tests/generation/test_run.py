from pathlib import Path

import pytest
from toy_stages import Build, Plan, recipe

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

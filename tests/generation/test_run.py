from pathlib import Path

from toy_outputs import published
from toy_stages import recipe

from reasonray.dataset.manifest import read_manifest
from reasonray.generation.run import run


def test_what_a_run_killed_at_its_very_end_left_is_removed(tmp_path: Path) -> None:
    published(tmp_path / "out")
    assert (tmp_path / "out/.run/plan").exists()
    assert run(recipe(), tmp_path / "out") == read_manifest(tmp_path / "out")
    assert not (tmp_path / "out/.run").exists()

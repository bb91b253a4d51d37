from functools import partial
from pathlib import Path

import pytest
from toy_outputs import published
from toy_stages import recipe

import reasonray
from reasonray.core.errors import UserError
from reasonray.dataset.manifest import MANIFEST, read_manifest
from reasonray.generation.report import write_report
from reasonray.generation.run import run


def test_the_manifest_adds_up(tmp_path: Path) -> None:
    published(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert (manifest.inputs, manifest.accepted, manifest.rejected) == (18, 16, 2)
    assert manifest.rejections == {"quality": {"target_missing": 2}}
    assert {part: n.inputs for part, n in manifest.parts.items()} == {"I": 6, "II": 6, "III": 6}
    assert manifest.recipe == recipe().model_dump(mode="json")


@pytest.mark.parametrize("content", [b'{"name": "my web app"}', b"\xff", b"[]"])
def test_the_manifest_of_another_program_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    for use in (reasonray.read, write_report, partial(run, recipe())):
        with pytest.raises(UserError, match=r"its manifest\.json was not made by reasonray"):
            use(tmp_path)

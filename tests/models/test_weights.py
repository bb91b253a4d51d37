import os
import subprocess
import sys
from pathlib import Path

import pytest

import reasonray.mini

ZOO = Path(reasonray.mini.__file__).parent / "zoo"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

SCRIPT = """
import sys
from reasonray.core.recipe import load
from reasonray.stages import build

prefix, revision = sys.argv[1:]
sections = {
    "stages.caption": "captioner",
    "stages.ground": "detector",
    "stages.paint": "painter",
    "stages.quality": "detector",
    "language_model": "language_model",
}
settings = [f"{place}.model.name={prefix}{name}" for place, name in sections.items()]
settings += [f"{place}.model.revision={revision}" for place in sections]
recipe = load("mini", settings)
for name in ("caption", "ground", "paint", "quality", "propose"):
    print(*[model["revision"] for model in build(name, recipe).models])
"""


@pytest.mark.parametrize(
    ("prefix", "revision", "recorded"),
    [
        ("me/", "null", COMMIT),
        ("me/", "main", "main"),
        ("package:reasonray/mini/zoo/", "null", "None"),
    ],
)
def test_rows_say_which_commit_of_the_hub_was_loaded(
    tmp_path: Path, prefix: str, revision: str, recorded: str
) -> None:
    for model in ("captioner", "detector", "painter", "language_model"):
        cached = tmp_path / f"hub/models--me--{model}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs/main").write_text(COMMIT)
        (cached / "snapshots").mkdir()
        (cached / "snapshots" / COMMIT).symlink_to(ZOO / model)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, prefix, revision],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [recorded] * 5

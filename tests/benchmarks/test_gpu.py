"""That the figures of a GPU can be had at any time: its smallest sizes on the CPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("gpu.py")


def leaves(figures: dict[str, Any]) -> list[float]:
    """All numbers under a group."""
    return [
        number
        for value in figures.values()
        for number in (leaves(value) if isinstance(value, dict) else [float(value)])
    ]


@pytest.mark.nightly  # a script that is run by hand
@pytest.mark.zoo
def test_every_group_has_its_figures() -> None:
    words = [sys.executable, str(SCRIPT), "--scale", "tiny", "--device", "cpu"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    assert figures.pop("device") == "cpu"
    figures.pop("torch")
    groups = {"captioner", "detector", "painter", "features", "training", "inference"}
    assert set(figures) == groups
    assert [name for name, group in figures.items() if "error" in group] == [], done.stderr
    assert figures["detector"]["TF32"].pop("moves_scores_by") == 0  # there is none on a CPU
    assert min(number for group in figures.values() for number in leaves(group)) > 0

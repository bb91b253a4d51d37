"""That the engine's figures can be had at any time: its smallest sizes on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("serve_engine.py")


@pytest.mark.nightly  # a script that is run by hand
@pytest.mark.zoo
def test_the_zoo_s_editor_has_figures_and_shares_steps_exactly() -> None:
    words = [sys.executable, str(SCRIPT), "--scale", "tiny", "--device", "cpu"]
    groups = ["--only", "steps", "difference"]
    done = subprocess.run([*words, *groups], check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    assert figures["steps"]["96 px"]["batch 8"]["step_ms"] > 0
    assert figures["difference"]["engine"]["largest"] <= 1

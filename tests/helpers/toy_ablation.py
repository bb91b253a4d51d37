"""What an ablation is made of: a recipe with a tiny editor, data of three parts, a benchmark."""

from pathlib import Path
from typing import Any

import tiny_base
import yaml
from toy_editors import benchmark, pair

from reasonray.core.recipe import RECIPES
from reasonray.core.record import PARTS

CHUNK = 4
"""As in `finished_evaluation`."""


def lay_out(folder: Path, num_pairs: int = 6, **changes: Any) -> None:
    """Write `recipe.yaml`, `data` with six samples of each part, and `benchmark`.

    Args:
        folder: gets them, and the models' folders.
        num_pairs: of the benchmark, each with a direct and a reasoning instruction.
        changes: of the section `editor`.
    """
    content = yaml.safe_load((RECIPES / "mini.yaml").read_text())
    settings = {"num_steps": 2, "alignment_steps": 1, "early_stop": 3, **changes}
    content["editor"] = tiny_base.editor_settings(folder, **settings)
    content["evaluation"] |= {"chunk_rows": CHUNK, "side": tiny_base.SIZE}
    content["evaluation"]["arguments"] = {"*": {"num_inference_steps": 2}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    rows = [tiny_base.sample(number, PARTS[number // 6]) for number in range(18)]
    tiny_base.data(folder / "data", rows)
    benchmark(folder / "benchmark", [pair(number) for number in range(num_pairs)])


def line(folder: Path, output: Path) -> list[str]:
    """The command of the ablation of what was laid out."""
    words = ["ablate", str(folder / "recipe.yaml"), "--data", str(folder / "data")]
    return [*words, "--benchmark", str(folder / "benchmark"), "--output", str(output)]

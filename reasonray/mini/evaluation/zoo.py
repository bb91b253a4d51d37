"""The zoo's report: every figure beside its target, measured through the production stages.

Each group is a module of `reasonray.mini.evaluation` with `measure(recipe, count)`.
"""

import importlib
from collections.abc import Sequence

from reasonray.core.errors import UserError
from reasonray.core.recipe import load
from reasonray.mini.evaluation.measurement import Measurement
from reasonray.sources.mini.world import require_packages

GROUPS = (
    "captioner",
    "detector",
    "language_model",
    "classifier",
    "painter",
    "mllm",
    "judge",
    "metrics",
    "editor",
)


def evaluate(
    only: Sequence[str] | None = None, count: int = 500, recipe: str = "mini"
) -> list[Measurement]:
    """Measure the zoo on held-out scenes.

    Args:
        only: names of `GROUPS`; None: all.
        count: scenes (or requests) of each group.
        recipe: its stages, its editor's base and its judge are measured, with their models and
            thresholds; classifier, mllm and metrics are the zoo's, whatever it says, and the judge
            where it has none.

    Raises:
        UserError: no such group, no packages to draw with, or a model's folder is missing.
    """
    for name in only or ():
        if name not in GROUPS:
            raise UserError(f"mini evaluate {name}: not one of {', '.join(GROUPS)}")
    require_packages()
    loaded = load(recipe)
    results: list[Measurement] = []
    for name in GROUPS:
        if only is None or name in only:
            group = importlib.import_module(f"reasonray.mini.evaluation.{name}")
            results += group.measure(loaded, count)
    return results

"""Benchmarks of instruction-based editing, one file each, in one shape (`items`).

Layouts, formulas and faults follow the authors' own scripts, which each file names; no text and no
code of theirs is here. What the judge is asked is in our own words.
"""

from collections.abc import Callable, Mapping

from reasonray.core.errors import UserError
from reasonray.core.recipe import nearest
from reasonray.evaluation.benchmarks.emu_edit import EmuEdit
from reasonray.evaluation.benchmarks.gedit import GEditBench
from reasonray.evaluation.benchmarks.imgedit import ImgEditBench
from reasonray.evaluation.benchmarks.kris import KrisBench
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.benchmarks.magicbrush import MagicBrush
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.benchmarks.risebench import RiseBench
from reasonray.evaluation.benchmarks.unireditbench import UniREditBench
from reasonray.evaluation.items import Benchmark

BENCHMARKS: Mapping[str, Callable[[Files], Benchmark]] = {
    "risebench": RiseBench,
    "kris": KrisBench,
    "gedit": GEditBench,
    "imgedit": ImgEditBench,
    "unireditbench": UniREditBench,
    "magicbrush": MagicBrush,
    "emu_edit": EmuEdit,
}
"""The public ones, by their names on the command line."""

# The hub has it in one place with many terabytes of training data.
_HUB_FILES = {"imgedit": ("Benchmark.tar", "*.json")}


def open_benchmark(name: str, path: str) -> Benchmark:
    """A benchmark's items, rubric and formulas.

    Args:
        name: one of `BENCHMARKS`; any other is that of a folder of our own.
        path: of its files: a folder, a `.parquet` file, a URI of a store, or the hub's id
            (owner/name), which is fetched.

    Raises:
        UserError: an unknown name, or nothing is there.
    """
    kind = BENCHMARKS.get(name)
    if kind is not None:
        return kind(Files.at(path, _HUB_FILES.get(name)))
    if name == Ours.name or Ours.is_at(path):
        return Ours(path)
    raise UserError(
        f"benchmark {name}={path}: no such benchmark{nearest(name, [*BENCHMARKS, Ours.name])}, and "
        f"no folder of reasonray benchmark"
    )

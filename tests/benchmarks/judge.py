"""How far the zoo's judge agrees with the world's truth on labelled held-out edits.

python tests/benchmarks/judge.py [--count N] [--backend transformers|vllm]

Agreement is strict: accepted (every axis at least 4) exactly where the truth is; beside it what the
better of the two answers that look at nothing gets. Then each axis' score, the same and off by one;
agreement by kind of instruction and by fault; and the time of an edit.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from reasonray.evaluation.judge import AXES, Judge, Judgement
from reasonray.mini.evaluation.judge import Case, agrees, cases, judged, zoo_judge
from reasonray.mini.faults import accepts


def shares(
    labelled: list[Case], right: list[bool], names: Callable[[Case], list[str]]
) -> dict[str, str]:
    """The share of agreement and the count, by name."""
    listed: dict[str, list[bool]] = defaultdict(list)
    for case, agreed in zip(labelled, right, strict=True):
        for name in names(case):
            listed[name].append(agreed)
    return {name: f"{np.mean(each):.2f} of {len(each)}" for name, each in sorted(listed.items())}


def report(labelled: list[Case], judgements: list[Judgement], title: str) -> Table:
    """One table of all figures."""
    right = [agrees(*pair) for pair in zip(labelled, judgements, strict=True)]
    accepted = [case.edit.is_accepted for case in labelled]
    by_judge = [bool(each.axes) and accepts(each.axes) for each in judgements]
    blind = max(np.mean(accepted), 1 - np.mean(accepted))
    table = Table("figure", "value", title=title, box=None)
    table.add_row(
        "accepted where the truth is", f"{np.mean(right):.3f} ({blind:.3f} looking at nothing)"
    )
    wrongly = [judge and not truth for judge, truth in zip(by_judge, accepted, strict=True)]
    missed = [truth and not judge for judge, truth in zip(by_judge, accepted, strict=True)]
    table.add_row("accepted wrongly, refused wrongly", f"{sum(wrongly)}, {sum(missed)}")
    table.add_row("no valid reply", f"{sum(not each.axes for each in judgements)}")
    for axis in AXES:
        pairs = [
            (each.axes.get(axis, 0.0), case.edit.scores[axis])
            for case, each in zip(labelled, judgements, strict=True)
        ]
        off = np.abs(np.array(pairs)[:, 0] - np.array(pairs)[:, 1])
        table.add_row(
            f"{axis}: the same, off by one", f"{np.mean(off == 0):.3f}, {np.mean(off == 1):.3f}"
        )
    for name, share in shares(labelled, right, lambda case: [case.kind]).items():
        table.add_row(f"  {name}", share)
    for name, share in shares(
        labelled, right, lambda case: list(case.edit.faults) or ["no fault"]
    ).items():
        table.add_row(f"  {name}", share)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="edits, of all kinds alike")
    parser.add_argument("--backend", default="transformers", help="or vllm")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    judge, labelled = Judge(zoo_judge(arguments.backend), seed=0), cases(arguments.count)
    console = Console(width=110)
    judged(judge, labelled[:2], with_caption=True)
    for with_caption in (True, False):
        started = time.perf_counter()
        judgements = judged(judge, labelled, with_caption=with_caption)
        seconds = (time.perf_counter() - started) / len(labelled)
        words = "what should be seen is told" if with_caption else "with the instruction alone"
        title = f"{len(labelled)} edits, {words}, {seconds:.3f} s each"
        console.print(report(labelled, judgements, title), "")


if __name__ == "__main__":
    main()

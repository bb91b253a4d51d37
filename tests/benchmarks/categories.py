"""Precision and recall of stage `categories` on labelled captions.

    python tests/benchmarks/categories.py [--wrong]

Prints a line for each kind of caption, and with --wrong what differs from the labels.
"""

import argparse
import sys
from pathlib import Path

from reasonray.stages.categories import categories, load_pipeline

sys.path.append(str(Path(__file__).parents[1] / "helpers"))
from labelled_captions import labelled


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wrong", action="store_true", help="print the captions that differ")
    is_verbose = parser.parse_args().wrong
    pipeline = load_pipeline()
    sums = {"all": [0] * 5, "unseen": [0] * 5}
    print(f"{'':24s}captions  exact  precision  recall")
    for kind, captions in labelled().items():
        figures = [0, 0, 0, 0, 0]
        for caption, labels in captions:
            names = categories(caption, pipeline)
            right = len(set(names) & set(labels))
            row = (1, names == labels, right, len(names), len(labels))
            figures = [a + b for a, b in zip(figures, row, strict=True)]
            if is_verbose and names != labels:
                print(f"  {caption}\n    {', '.join(names)}  (expected: {', '.join(labels)})")
        for name in sums:
            if name == "all" or name in kind:
                sums[name] = [a + b for a, b in zip(sums[name], figures, strict=True)]
        _print(kind, figures)
    for name, figures in sums.items():
        _print(name, figures)


def _print(kind: str, figures: list[int]) -> None:
    count, exact, right, offered, expected = figures
    shares = f"{exact / count:5.1%}  {right / offered:9.1%}  {right / expected:6.1%}"
    print(f"{kind:24s}{count:8d}  {shares}")


if __name__ == "__main__":
    main()

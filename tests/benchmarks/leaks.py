"""How well the leak check of P_gen tells candidates that name what the edit brings in.

python tests/benchmarks/leaks.py [--list]

On pairs and candidates labelled by hand (`tests/data/leaks.yaml`); --list prints each error.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from reasonray.prompts.words import introduced, naming

DATA = Path(__file__).parents[1] / "data" / "leaks.yaml"


def main() -> None:
    for name, pairs in yaml.safe_load(DATA.read_text(encoding="utf-8")).items():
        measure(name, pairs)


def measure(name: str, pairs: list[dict[str, Any]]) -> None:
    right = wrong = missed = innocent = 0
    for pair in pairs:
        telling = introduced(pair["input"], pair["edited"], pair["direct"])
        for label in ("innocent", "leaks"):
            for candidate in pair[label]:
                word = naming(candidate, telling)
                right += label == "leaks" and word is not None
                wrong += label == "innocent" and word is not None
                missed += label == "leaks" and word is None
                innocent += label == "innocent"
                if "--list" in sys.argv and (word is None) == (label == "leaks"):
                    print(f"{label}: {candidate!r} {word or ''} of {telling}")
    print(
        f"{name}: {len(pairs)} pairs, {right + missed} candidates that leak, {innocent} that do "
        f"not: precision {right / (right + wrong):.3f}, recall {right / (right + missed):.3f}; "
        f"{wrong} innocent ones barred, {missed} leaks passed"
    )


if __name__ == "__main__":
    main()

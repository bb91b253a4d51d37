"""How well `ground` tells what may be repainted: one thing that a sentence can name.

python tests/benchmarks/instances.py [--list]

On boxes of detectors labelled by hand (`tests/data/instances.yaml`); --list prints each error. An
offered category is right where a person would offer it, under the same word ("left").
"""

import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from reasonray.core.sections import GroundConfig
from reasonray.models.detector import Answers
from reasonray.stages.ground import boxes_of
from reasonray.stages.instances import offered

DATA = Path(__file__).parents[1] / "data" / "instances.yaml"
CONFIG = GroundConfig()


def offers(case: dict[str, Any]) -> dict[str, str]:
    """Category -> the word that tells its box from others, "only" where there is one."""
    found: dict[str, list[list[float]]] = {}
    for line in case["boxes"]:
        name, *numbers = line.rsplit(" ", 5)
        found.setdefault(name, []).append([float(number) for number in numbers])
    answers = [
        Answers(name, torch.tensor(rows)[:, :4], torch.tensor(rows)[:, 4])
        for name, rows in found.items()
    ]
    boxes = boxes_of(answers, CONFIG.box_threshold)
    detections = offered(boxes, (100, 100), CONFIG, case["caption"])
    return {item["category"]: item.get("qualifier") or "only" for item in detections}


def main() -> None:
    for name, cases in yaml.safe_load(DATA.read_text(encoding="utf-8")).items():
        measure(name, cases)


def measure(name: str, cases: list[dict[str, Any]]) -> None:
    num_right = num_offered = num_labelled = 0
    for case in cases:
        given, labelled = offers(case), case["offered"]
        right = {category for category, word in given.items() if word in labelled.get(category, [])}
        num_right += len(right)
        num_offered += len(given)
        num_labelled += len(labelled)
        if "--list" in sys.argv and not right == set(given) == set(labelled):
            print(f"{case['caption']}: offered {given}, labelled {labelled}")
    print(
        f"{name}: {len(cases)} pictures, {num_labelled} things to offer: "
        f"precision {num_right / num_offered:.3f}, recall {num_right / num_labelled:.3f}"
    )


if __name__ == "__main__":
    main()

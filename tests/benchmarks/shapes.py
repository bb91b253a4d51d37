"""Does an editor trained on pictures of all shapes edit them, and square ones as before?

    python tests/benchmarks/shapes.py scenes DIR [--count N]
    python tests/benchmarks/shapes.py edit DIR EDITOR NAME
    python tests/benchmarks/shapes.py score DIR NAME NAME

`scenes` draws held-out edits of two worlds: the plain one of 96 x 96, and one of 1:3 to 3:1, some
objects cut by the border, its shorter side 96 pixels. `edit` has an editor make them, at the mini
recipe's steps and guidance; it needs only the pipeline, so that other versions of it can be asked
(PYTHONPATH). `score` prints, for two such, how often a classifier recognises the target, the other
objects, and all of them in one picture, with 95 % intervals, and the second's lead with one from
the bootstrap over edits.
"""

import argparse
import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

WORLDS = ("square", "long")
KINDS = ("direct", "reasoning")
STEPS, GUIDANCE, IMAGE_GUIDANCE = 12, 2.0, 1.2
"""Of the mini recipe's validation."""


def scenes(folder: Path, count: int) -> None:
    """Draw the pictures, and note what is to be edited and what is to be there afterwards."""
    from reasonray.mini.evaluation import edits
    from reasonray.mini.evaluation.scenes import FIRST_SEED
    from reasonray.sources.mini.scenery import PLAIN, Scenery
    from reasonray.sources.mini.world import IMAGE_SIZE, render, sample_scene, scaled

    long = Scenery(aspects=(1 / 3, 3.0), megapixels=(0.02, 0.05), cut=0.3)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for world, scenery in zip(WORLDS, (PLAIN, long), strict=True):
        for kind in KINDS:
            drawn = 0
            for seed in itertools.count(FIRST_SEED):
                scene = sample_scene(seed, scenery=scenery)
                scene = scaled(scene, IMAGE_SIZE / min(scene.width, scene.height))
                edit = edits.KINDS[kind](scene, random.Random(f"{kind} {seed}"))
                if edit is None:
                    continue
                name = f"{world}-{kind}-{drawn:04d}"
                Image.fromarray(render(scene)).save(folder / f"{name}.png")
                lines.append(
                    {
                        "name": name,
                        "instruction": edit.instruction,
                        "index": edit.index,
                        "categories": edit.truth.categories,
                        "boxes": [scene.visible(item) for item in edit.truth.objects],
                    }
                )
                drawn += 1
                if drawn == count:
                    break
    (folder / "edits.json").write_text(json.dumps(lines))


def edit(folder: Path, editor: Path, name: str) -> None:
    """Edit all pictures, those that are there already left out; each from noise of its own."""
    from reasonray.editor.pipeline import ReasonEditPipeline

    torch.set_num_threads(1)
    pipe: Any = ReasonEditPipeline.from_pretrained(editor)
    pipe.set_progress_bar_config(disable=True)
    (folder / name).mkdir(exist_ok=True)
    for number, line in enumerate(json.loads((folder / "edits.json").read_text())):
        path = folder / name / f"{line['name']}.png"
        if path.exists():
            continue
        image = pipe(
            image=Image.open(folder / f"{line['name']}.png").convert("RGB"),
            instruction=line["instruction"],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            image_guidance_scale=IMAGE_GUIDANCE,
            generator=[torch.Generator().manual_seed(number)],
        ).images[0]
        temporary = path.with_suffix(".tmp")
        image.save(temporary, "PNG")
        temporary.replace(path)


def score(folder: Path, names: list[str]) -> None:
    """Print both editors' figures."""
    from reasonray.evaluation.metrics import difference_interval
    from reasonray.mini.classifier import Classifier

    classifier, lines = Classifier(), json.loads((folder / "edits.json").read_text())
    flags: dict[tuple[str, str, str], list[float]] = {}
    for line in lines:
        world, kind, _ = line["name"].split("-")
        for name in names:
            with Image.open(folder / name / f"{line['name']}.png") as opened:
                opened.load()
            original = Image.open(folder / f"{line['name']}.png")
            # The VAE's multiple: a few pixels less than the scene.
            picture = np.asarray(opened.convert("RGB").resize(original.size))
            told = classifier.recognise(
                [picture] * len(line["boxes"]), [tuple(box) for box in line["boxes"]]
            )
            right = [ours == truth for ours, truth in zip(told, line["categories"], strict=True)]
            flags.setdefault((name, f"{world} {kind}", "target"), []).append(right[line["index"]])
            flags.setdefault((name, f"{world} {kind}", "both"), []).append(all(right))
            others = [each for place, each in enumerate(right) if place != line["index"]]
            # One figure an edit: the bootstrap draws edits, not objects.
            flags.setdefault((name, f"{world} {kind}", "others"), []).append(
                float(np.mean(others)) if others else math.nan
            )
    for group in dict.fromkeys(key[1] for key in flags):
        for figure in ("target", "others", "both"):
            first, second = (np.array(flags[name, group, figure], float) for name in names)
            valid = ~np.isnan(first)
            first, second = first[valid], second[valid]
            low, high = difference_interval(second, first)
            shown = ", ".join(
                f"{name} {values.mean():.1%} ({_wilson(values)})"
                for name, values in zip(names, (first, second), strict=True)
            )
            print(f"{group}, {figure}: {shown}; lead {low:+.1%} to {high:+.1%}, n {len(first)}")


def _wilson(values: "np.ndarray[Any, np.dtype[np.float64]]") -> str:
    """95 % interval of a share."""
    n, p, z = len(values), float(values.mean()), 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{middle - half:.1%} to {middle + half:.1%}"


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for command, words in (("scenes", []), ("edit", ["editor", "name"]), ("score", ["a", "b"])):
        sub = commands.add_parser(command)
        sub.add_argument("folder", type=Path)
        for word in words:
            sub.add_argument(word)
        if command == "scenes":
            sub.add_argument("--count", type=int, default=200, help="edits of a kind and world")
    arguments = parser.parse_args()
    if arguments.command == "scenes":
        scenes(arguments.folder, arguments.count)
    elif arguments.command == "edit":
        edit(arguments.folder, Path(arguments.editor), arguments.name)
    else:
        score(arguments.folder, [arguments.a, arguments.b])


if __name__ == "__main__":
    main()

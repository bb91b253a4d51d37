"""What an editor of the mini world gets right on held-out scenes, beside a baseline's.

python tests/benchmarks/editor.py EDITOR BASELINE [--count N] [--picture FILE]

EDITOR and BASELINE are folders that `reasonray train mini` has left. For each kind of instruction
(`reasonray.mini.evaluation.edits`): how often the classifier finds the target in the box and the
other objects where they were, and the five metrics against the truth, for the unedited input, the
truth through the VAE (the floor of L1 and L2), the baseline and the editor; then the editor's lead
over the other two with its 95 % confidence interval.
"""

import argparse
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from reasonray.core.recipe import load
from reasonray.core.sections import ModelConfig
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.evaluation.items import TRUTH_METRICS
from reasonray.evaluation.metrics import Metrics, difference_interval, means
from reasonray.mini import ZOO
from reasonray.mini.classifier import Classifier
from reasonray.mini.evaluation.editor import Picture, edited, recognised
from reasonray.mini.evaluation.edits import KINDS, Edit, edits
from reasonray.models.pixels import to_images, to_tensor
from reasonray.sources.mini.world import render


@torch.inference_mode()
def reconstructed(vae: Any, pictures: list[Picture]) -> list[Picture]:
    """Pictures through the VAE: the best that an editor can give."""
    decoded = vae.decode(vae.encode(to_tensor(pictures)).latent_dist.mode()).sample
    return [np.asarray(picture) for picture in to_images(decoded)]


def draw(rows: list[tuple[Edit, Picture, Picture]]) -> Image.Image:
    """Rows of input | baseline | ours under their instruction."""
    side, gap, text = 192, 12, 60
    columns = 3
    width = columns * (side + gap) + gap
    sheet = Image.new("RGB", (2 * width, -(-len(rows) // 2) * (side + text + gap) + 40), "#faf9f6")
    pen = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(17), ImageFont.load_default(15)
    for half in range(2):
        for place, head in enumerate(("input", "text alone", "picture and text")):
            pen.text((half * width + gap + place * (side + gap), 12), head, "#66666f", small)
    for number, (edit, baseline, ours) in enumerate(rows):
        left = number % 2 * width + gap
        top = number // 2 * (side + text + gap) + 36
        for place, picture in enumerate((render(edit.scene), baseline, ours)):
            image = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(image, (left + place * (side + gap), top))
        words = textwrap.fill(f"“{edit.instruction}”", 68)
        pen.multiline_text((left, top + side + 6), words, "#1c1c21", font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("editor", type=Path)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("--count", type=int, default=150, help="edits of each kind")
    parser.add_argument("--picture", type=Path, help="drawn here: input | baseline | ours")
    arguments = parser.parse_args()
    pipes = {}
    for name in ("baseline", "editor"):
        pipes[name] = ReasonEditPipeline.from_pretrained(getattr(arguments, name))
    classifier, metrics = (
        Classifier(),
        Metrics(*(ModelConfig(name=str(ZOO / name)) for name in ("clip", "dino"))),
    )
    config, console = load("mini").editor, Console(width=120)
    shown: list[tuple[Edit, Picture, Picture]] = []
    for kind in KINDS:
        wanted = edits(kind, arguments.count)
        truth = [render(edit.truth) for edit in wanted]
        pictures = {
            "unedited": [render(edit.scene) for edit in wanted],
            "truth, VAE": reconstructed(pipes["editor"].vae, truth),
            **{name: edited(pipe, wanted, config) for name, pipe in pipes.items()},
        }
        scores = {
            name: metrics(
                [Image.fromarray(each) for each in made],
                [Image.fromarray(each) for each in truth],
                [edit.target_caption for edit in wanted],
            )
            for name, made in pictures.items()
        }
        table = Table(f"{kind}, {len(wanted)} edits", "target", "others", *TRUTH_METRICS, box=None)
        for name, made in pictures.items():
            target, others = recognised(wanted, made, classifier)
            figures = [f"{value:.4f}" for value in means(scores[name]).values()]
            table.add_row(name, f"{np.mean(target):.3f}", f"{np.mean(others):.3f}", *figures)
        for name in ("unedited", "baseline"):
            leads = []
            for metric in TRUTH_METRICS:
                low, high = difference_interval(scores["editor"][metric], scores[name][metric])
                leads.append(f"{low:+.4f} {high:+.4f}")
            table.add_row(f"lead over {name}", "", "", *leads)
        console.print(table, "")
        if kind == "relational":
            seen: dict[str, set[str]] = {}
            for edit, before, after in zip(
                wanted, pictures["baseline"], pictures["editor"], strict=True
            ):
                seen.setdefault(edit.instruction, set())
                if edit.target not in seen[edit.instruction]:
                    seen[edit.instruction].add(edit.target)
                    shown.append((edit, before, after))
        elif kind == "reasoning":
            triples = zip(wanted, pictures["baseline"], pictures["editor"], strict=True)
            shown += list(triples)[:4]
    if arguments.picture:
        # Figure 14's kind: pictures under the same sentence.
        sentences = [edit.instruction for edit, *_ in shown[4:]]
        same = [row for row in shown[4:] if sentences.count(row[0].instruction) > 1]
        same.sort(key=lambda row: row[0].instruction)
        draw(shown[:4] + same[:4]).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()

"""`ablate`: trainings and an evaluation, one after another, each of which can be gone on with.

DIR/features/                  what the frozen models gave, for all trainings once
DIR/variants/NAME/             variant.json: what it is; training/, as `train` leaves it
DIR/evaluation/                as `evaluate` leaves it, with the page
DIR/charts/                    Figure 15a and b of each benchmark, PNG and SVG
DIR/table.md, results.json     figures with intervals, and what each step brings
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from reasonray.core.console import say
from reasonray.core.errors import UserError
from reasonray.core.extras import require
from reasonray.core.place import Place, make_folder, place, reached
from reasonray.core.recipe import Recipe, load
from reasonray.core.record import PARTS
from reasonray.core.session import session
from reasonray.core.writing import write_file
from reasonray.dataset.manifest import Manifest, selected
from reasonray.evaluation.ablation.report import write_report
from reasonray.evaluation.ablation.variants import Variant, variants
from reasonray.evaluation.chunks import measured_by
from reasonray.evaluation.editors import Spec
from reasonray.evaluation.report import outcome_of
from reasonray.evaluation.run import evaluate
from reasonray.evaluation.subjects import all_opened

SESSIONS = ".sessions"


def ablate(
    recipe: str | Path | Recipe,
    data: str | Place,
    benchmarks: Sequence[str],
    output: str | Place,
    overrides: Sequence[str] = (),
) -> Place:
    """Train the ablation's editors and measure them, or go on where that was stopped.

    What is compared, and what "without fine-tuning" means, is `variants.variants`' to say.

    Args:
        recipe: its sections `editor` and `evaluation` count.
        data: the output of `generate`, with samples of all parts.
        benchmarks: as for `evaluate`.
        output: a folder or the URI of one on a store.
        overrides: `a.b=c` settings of the recipe.

    Returns:
        The table, `table.md`.

    Raises:
        UserError: the recipe, the dataset, a benchmark or the output does not fit.
        RunError: it had to stop; the same call goes on from there.
    """
    from reasonray.editor.job import compute_features, train

    require("matplotlib")
    recipe, data, folder = load(recipe, overrides), place(data, "data"), place(output)
    compared = variants(recipe, _with_all_parts(data))
    _refuse_without_baseline(recipe)
    subjects = all_opened(benchmarks)
    by = {subject.name: measured_by(subject.benchmark, recipe) for subject in subjects}
    features, evaluation = folder / "features", folder / "evaluation"
    with session(folder / SESSIONS, folder):
        if recipe.editor.features == "cached":
            # Of all parts, before any training computes those of some.
            compute_features(recipe, data, features, PARTS, compared[-1].settings)
        for variant in compared:
            say(f"{variant.name}: {variant.about}")
            training = _training(folder, variant)
            train(recipe, data, training, variant.parts, variant.settings, features)
            _note(folder, variant)  # what it is, and not what was refused
        specs = [Spec(each.name, str(_training(folder, each) / "editor")) for each in compared]
        evaluate(recipe, [f"{spec.name}={spec.text}" for spec in specs], benchmarks, evaluation)
        with reached(folder):
            outcomes = [
                outcome_of(evaluation, specs, subject, by[subject.name]) for subject in subjects
            ]
            return write_report(folder, compared, outcomes)


def _training(folder: Place, variant: Variant) -> Place:
    return folder / "variants" / variant.name / "training"


def _note(folder: Place, variant: Variant) -> None:
    path = folder / "variants" / variant.name / "variant.json"
    with reached(folder):
        make_folder(path.parent)
        write_file(path, json.dumps(dataclasses.asdict(variant), indent=1))


def _with_all_parts(data: Place) -> Manifest:
    manifest, _ = selected(data, None)
    there = {part for part, counts in manifest.parts.items() if counts.accepted}
    if lacking := [part for part in PARTS if part not in there]:
        raise UserError(
            f"data {data}: no accepted samples of part {', '.join(lacking)}; an ablation compares "
            "trainings on I, I+II and I+II+III: give a dataset with all three"
        )
    return manifest


def _refuse_without_baseline(recipe: Recipe) -> None:
    from reasonray.editor.model import sees_pictures

    if not sees_pictures(recipe.editor):
        raise UserError(
            f"editor.base {recipe.editor.base.name}: a Stable Diffusion, which takes no picture; "
            "the ablation's baseline is an InstructPix2Pix: set editor.base.name to one, such as "
            "timbrooks/instruct-pix2pix"
        )

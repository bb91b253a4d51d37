"""Does the judge say of held-out edits what is true of them?

Edits of all kinds of instruction, made well and badly (`reasonray.mini.faults`), go through the
judge as any editor's do. Its answer agrees where it accepts what is to be accepted: every axis at
least 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from reasonray.core.evaluation_sections import JudgeConfig
from reasonray.core.recipe import Recipe
from reasonray.core.sections import LanguageModelConfig, ModelConfig
from reasonray.evaluation.judge import AXES, Asked, Judge, Judgement, edit_call
from reasonray.mini import ZOO
from reasonray.mini.evaluation.edits import KINDS, edits
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import FIRST_SEED
from reasonray.mini.faults import Labelled, Picture, accepts, draw, pictures
from reasonray.mini.training.judge import repainting
from reasonray.sources.mini.world import render

OTHER_SEEDS = range(FIRST_SEED + 300_000, FIRST_SEED + 400_000)
"""Of scenes that come instead of the edited one."""


@dataclass(frozen=True)
class Case:
    """A labelled edit that no training has seen.

    Attributes:
        kind: of its instruction, one of `KINDS`.
        instruction: as an editor was given it.
        expected: caption of what should be seen afterwards.
        edit: as it was made.
        picture: what came of it, uint8 HWC.
    """

    kind: str
    instruction: str
    expected: str
    edit: Labelled
    picture: Picture


def zoo_judge(backend: str = "transformers") -> JudgeConfig:
    """A recipe's section with the zoo's judge."""
    model = ModelConfig(name="package:reasonray/mini/zoo/judge", dtype="float32")
    return JudgeConfig(
        language_model=LanguageModelConfig.model_validate({"backend": backend, "model": model}),
        max_tokens=128,
    )


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Of the recipe's judge, or the zoo's where it has none, over `count` edits of all kinds."""
    config = recipe.evaluation.judge
    judge = Judge(config if config.language_model else zoo_judge(), seed=recipe.seed)
    labelled = cases(count)
    results = []
    for with_caption, label in ((True, ""), (False, ", from the instruction alone")):
        judgements = judged(judge, labelled, with_caption=with_caption)
        agreed = sum(agrees(*pair) for pair in zip(labelled, judgements, strict=True))
        results.append(share(f"judge: accepts as the truth does{label}", agreed, count, 0.9))
        for axis in AXES:
            same = sum(
                judgement.axes.get(axis) == case.edit.scores[axis]
                for case, judgement in zip(labelled, judgements, strict=True)
            )
            results.append(share(f"judge: {axis} scored as the truth does{label}", same, count))
    return results


def cases(count: int) -> list[Case]:
    """So many labelled edits, the same at every evaluation: of each kind of instruction alike."""
    kinds = list(KINDS)
    drawn = []
    for place, kind in enumerate(kinds):
        # What does not divide evenly goes to the first kinds.
        number = len(range(place, count, len(kinds)))
        for turn, edit in enumerate(edits(kind, number)):
            rng = np.random.default_rng((turn, place, 0x7E57))
            labelled = draw(edit.scene, edit.index, edit.target, rng, OTHER_SEEDS)
            drawn.append((kind, edit, labelled))
    painted = pictures([labelled for _, _, labelled in drawn], repainting(ZOO))
    return [
        Case(kind, edit.instruction, edit.target_caption, labelled, picture)
        for (kind, edit, labelled), picture in zip(drawn, painted, strict=True)
    ]


def judged(judge: Judge, labelled: Sequence[Case], *, with_caption: bool) -> list[Judgement]:
    """What a judge says of each edit.

    Args:
        judge: any.
        labelled: the edits.
        with_caption: the question has the truth's caption, as where a truth is known.
    """
    return judge(
        [
            Asked(
                f"{case.kind}/{place}",
                edit_call(
                    PIL.Image.fromarray(render(case.edit.scene)),
                    PIL.Image.fromarray(case.picture),
                    case.instruction,
                    case.expected if with_caption else "",
                ),
            )
            for place, case in enumerate(labelled)
        ]
    )


def agrees(case: Case, judgement: Judgement) -> bool:
    """Whether it accepts what is to be accepted, and nothing else; a failure never agrees."""
    axes = judgement.axes
    return bool(axes) and accepts(axes) == case.edit.is_accepted

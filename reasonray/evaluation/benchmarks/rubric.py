"""How a judge is asked: one form for all benchmarks, filled from tables.

The words are ours throughout; which pictures are shown, which axes are asked for in one call, and
their ranges are each benchmark's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import PIL.Image

from reasonray.evaluation.items import JudgeCall
from reasonray.prompts.template import one_line

Shown = Sequence[tuple[str, PIL.Image.Image]]
"""Pictures in order, each with what the judge is told that it is."""

BEFORE, AFTER = "the picture before the edit", "the edited picture, which is judged"
TRUTH = "a reference picture of the right result"


@dataclass(frozen=True)
class Axis:
    """What one integer says.

    Attributes:
        question: what is looked at, and what is not.
        anchors: what some of the integers mean, from the highest down.
        low, high: the range.
    """

    question: str
    anchors: Mapping[int, str]
    low: int = 1
    high: int = 5


def call(
    name: str, shown: Shown, facts: Mapping[str, str], axes: Mapping[str, Axis], remark: str = ""
) -> JudgeCall:
    """A question to the judge.

    Args:
        name: of the call.
        shown: the pictures.
        facts: what the judge is told in words, by what it is; an empty text is told as such.
        axes: by their names.
        remark: a rule about the axes together.
    """
    pictures = [f"{number}. {what}" for number, (what, _) in enumerate(shown, 1)]
    return JudgeCall(
        prompt="\n".join(
            [
                "You judge the work of a picture editor. You are shown, in this order:",
                *pictures,
                *(f"{what}: {one_line(text)}" for what, text in facts.items()),
                "Score with whole numbers, each on its own:",
                *(_described(axis_name, axis) for axis_name, axis in axes.items()),
                *([remark] if remark else []),
            ]
        ),
        pictures=tuple(picture for _, picture in shown),
        axes={axis_name: (axis.low, axis.high) for axis_name, axis in axes.items()},
        name=name,
    )


def _described(name: str, axis: Axis) -> str:
    anchors = "; ".join(f"{number}: {text}" for number, text in axis.anchors.items())
    return f"- {name} ({axis.low} to {axis.high}): {axis.question} {anchors}."

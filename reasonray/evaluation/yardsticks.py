"""One chunk of an editor's pictures by what measures its benchmark: metrics, a judge, or both."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import PIL.Image
import pyarrow as pa

from reasonray.core import images
from reasonray.core.errors import RowError
from reasonray.evaluation.editors import truth_of
from reasonray.evaluation.items import (
    INPUT_METRICS,
    TRUTH_METRICS,
    Benchmark,
    Item,
    JudgeCall,
)
from reasonray.evaluation.judge import Asked, Judge, Judgement, edit_call
from reasonray.evaluation.metrics import InputMetrics, Metrics

Pictures = list[PIL.Image.Image]
Pairs = Sequence[tuple[Item, PIL.Image.Image]]
_OtherOf = Callable[[Item], PIL.Image.Image]
_Measure = Callable[[Pictures, Pictures, list[Item]], list[dict[str, float]]]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("axes", pa.map_(pa.string(), pa.float64())),
        ("spread", pa.map_(pa.string(), pa.float64())),
        ("reasons", pa.map_(pa.string(), pa.string())),
        ("note", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("num_unseen", pa.int32()),
        ("revised", pa.string()),
    ]
)
"""An item's figures by axis or metric; null where the editor made no picture, without those that
cannot be had. Of a judge's repeats `spread` has the standard deviation by axis, `reasons` what the
first one wrote. `reason` and `detail` say why there is no picture or figure, `note` tells of a
picture of another size than its input's, `num_unseen` of the input's pictures that the editor was
not given, `revised` of the instruction that it wrote for itself."""


@dataclass(frozen=True)
class Measured:
    """What a yardstick gives for one picture; as `SCHEMA`.

    Attributes:
        axes: figures by axis or metric.
        spread, reasons: of a judge.
        failure: why a figure is not there.
    """

    axes: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    failure: RowError | None = None

    def __or__(self, other: "Measured") -> "Measured":
        """Both together."""
        return Measured(
            {**self.axes, **other.axes},
            {**self.spread, **other.spread},
            {**self.reasons, **other.reasons},
            self.failure or other.failure,
        )


class Yardstick(Protocol):
    """What gives the axes of a picture."""

    def __call__(self, pairs: Pairs) -> list[Measured]:
        """Of each pair of an item and its edited picture."""
        ...


class ByTruth:
    """The five metrics beside the first reference; without a caption there is no CLIP-T."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, pairs: Pairs) -> list[Measured]:
        """See `Yardstick`."""
        return _measured(pairs, truth_of, self._measure)

    def _measure(
        self,
        outputs: list[PIL.Image.Image],
        truths: list[PIL.Image.Image],
        items: list[Item],
    ) -> list[dict[str, float]]:
        columns = self._metrics(outputs, truths, [item.reference_text for item in items])
        rows = [
            {name: columns[name][number] for name in TRUTH_METRICS} for number in range(len(items))
        ]
        for row, item in zip(rows, items, strict=True):
            if not item.reference_text:
                del row["CLIP-T"]
        return rows


class ByInput:
    """Emu Edit's metrics beside the picture before."""

    def __init__(self, metrics: InputMetrics) -> None:
        self._metrics = metrics

    def __call__(self, pairs: Pairs) -> list[Measured]:
        """See `Yardstick`."""
        return _measured(pairs, Item.before, self._measure)

    def _measure(
        self,
        outputs: list[PIL.Image.Image],
        inputs: list[PIL.Image.Image],
        items: list[Item],
    ) -> list[dict[str, float]]:
        after, before = (
            [getattr(i, n) for i in items] for n in ("reference_text", "input_caption")
        )
        columns = self._metrics(outputs, inputs, after, before)
        return [
            {name: columns[name][number] for name in INPUT_METRICS} for number in range(len(items))
        ]


class ByJudge:
    """A judge's scores: to the benchmark's own questions, or to ours where it has none."""

    def __init__(self, benchmark: Benchmark, judge: Judge) -> None:
        self._benchmark, self._judge = benchmark, judge

    def __call__(self, pairs: Pairs) -> list[Measured]:
        """See `Yardstick`; all questions at once."""
        calls: list[list[JudgeCall] | RowError] = []
        for item, picture in pairs:
            try:
                calls.append(self._calls(item, picture))
            except RowError as error:
                calls.append(error)
        asked = [
            Asked(item.id, call)
            for (item, _), own in zip(pairs, calls, strict=True)
            if not isinstance(own, RowError)
            for call in own
        ]
        judgements = iter(self._judge(asked))
        return [
            Measured({}, failure=own)
            if isinstance(own, RowError)
            else functools.reduce(
                operator.or_, (_judged(next(judgements)) for _ in own), Measured({})
            )
            for own in calls
        ]

    def _calls(self, item: Item, picture: PIL.Image.Image) -> list[JudgeCall]:
        if self._benchmark.yardstick == "judge":
            return self._benchmark.calls(item, picture)
        return [edit_call(item.before(), picture, item.full_instruction, item.reference_text)]


def _judged(judgement: Judgement) -> Measured:
    verdicts, failures = judgement.verdicts, judgement.failures
    failure = RowError(failures[0].reason, failures[0].detail) if failures else None
    reasons = verdicts[0].reasons if verdicts else {}
    return Measured(judgement.axes, judgement.spread, reasons, failure)


class Both:
    """Several yardsticks on the same pictures."""

    def __init__(self, *yardsticks: Yardstick) -> None:
        self._yardsticks = yardsticks

    def __call__(self, pairs: Pairs) -> list[Measured]:
        """See `Yardstick`."""
        columns = [yardstick(pairs) for yardstick in self._yardsticks]
        return [functools.reduce(operator.or_, row) for row in zip(*columns, strict=True)]


def _measured(pairs: Pairs, other_of: _OtherOf, measure: _Measure) -> list[Measured]:
    others: list[PIL.Image.Image | RowError] = []
    for item, _ in pairs:
        try:
            others.append(other_of(item))
        except RowError as error:
            others.append(error)
    there = [number for number, other in enumerate(others) if not isinstance(other, RowError)]
    pictures = [other for other in others if not isinstance(other, RowError)]
    rows = iter(
        measure([pairs[i][1] for i in there], pictures, [pairs[i][0] for i in there])
        if there
        else []
    )
    return [
        Measured({}, failure=other) if isinstance(other, RowError) else Measured(next(rows))
        for other in others
    ]


def measure(
    yardstick: Yardstick,
    items: Sequence[Item],
    edits: pa.Table,
    before: Mapping[str, dict[str, Any]] = MappingProxyType({}),
) -> pa.Table:
    """The pictures' figures.

    Args:
        yardstick: of the benchmark.
        items: of the chunk.
        edits: `editing.SCHEMA`, the same items in the same order.
        before: rows that there are already, by item; these are not measured.

    Returns:
        `SCHEMA`, a row for each item.
    """
    rows: list[dict[str, Any]] = []
    pairs: list[tuple[Item, PIL.Image.Image]] = []
    owners: list[dict[str, Any]] = []
    for item, edit in zip(items, edits.to_pylist(), strict=True):
        if item.id in before:
            rows.append(before[item.id])
            continue
        rows.append({n: edit[n] for n in ("id", "reason", "detail", "num_unseen", "revised")})
        if edit["picture"] is not None:
            pairs.append((item, images.decode(edit["picture"])))
            owners.append(rows[-1])
    for row, (item, picture), figures in zip(owners, pairs, yardstick(pairs), strict=True):
        row |= {
            "note": _note(item, picture),
            "axes": list(figures.axes.items()),
            "spread": list(figures.spread.items()),
            "reasons": list(figures.reasons.items()),
        }
        if figures.failure:
            row |= {"reason": figures.failure.reason, "detail": figures.failure.detail}
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _note(item: Item, picture: PIL.Image.Image) -> str | None:
    try:
        width, height = item.before().size
    except RowError:
        return None  # its editor has managed without
    if picture.size == (width, height):
        return None
    return f"of {picture.width} x {picture.height}, the picture before of {width} x {height}"

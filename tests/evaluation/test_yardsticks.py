"""What measures an editor's pictures: metrics and judges, and what they cannot measure."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pytest
from lying_server import Answer, LyingServer, prompt
from toy_editors import SIDE, benchmark, pair

from reasonray.core.evaluation_sections import JudgeConfig
from reasonray.core.images import encode_png
from reasonray.core.sections import ModelConfig
from reasonray.evaluation import editing
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.judge import AXES, Judge
from reasonray.evaluation.metrics import InputMetrics, Metrics
from reasonray.evaluation.yardsticks import Both, ByInput, ByJudge, ByTruth, measure
from reasonray.models import openai_server

ZOO = "package:reasonray/mini/zoo"
MODELS = (ModelConfig(name=f"{ZOO}/clip"), ModelConfig(name=f"{ZOO}/dino"))


def edits(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=editing.SCHEMA)


def edit(item_id: str, picture: PIL.Image.Image | None, **fields: Any) -> dict[str, Any]:
    encoded = None if picture is None else encode_png(picture)
    return {"id": item_id, "picture": encoded, "seconds": 1.0, **fields}


def solid(colour: tuple[int, int, int], size: tuple[int, int] = (SIDE, SIDE)) -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, colour)


def opened(folder: Path, *pairs: dict[str, Any]) -> Ours:
    return Ours(str(benchmark(folder / "benchmark", pairs)))


def one(number: int, text: str = "go", **changes: Any) -> dict[str, Any]:
    return pair(number, instructions=[{"kind": "direct", "text": text}], **changes)


@pytest.mark.zoo
def test_what_cannot_be_measured_is_said_by_row(tmp_path: Path) -> None:
    no_truth = one(1, truth={"bytes": b"no picture", "path": None})
    ours = opened(tmp_path, one(0), no_truth, one(2), one(3))
    first, second, third, fourth = ours.items()
    made = edits(
        edit(first.id, solid((255, 255, 215))),
        edit(second.id, solid((0, 0, 0))),
        edit(third.id, None, reason="late", detail="no picture within 3 s"),
        edit(fourth.id, solid((234, 162, 215), (16, 16))),
    )
    rows = measure(ByTruth(Metrics(*MODELS)), ours.items(), made).to_pylist()
    assert dict(rows[0]["axes"])["L1"] == 0
    assert rows[0]["reason"] is rows[0]["note"] is None
    assert (rows[1]["axes"], rows[1]["reason"]) == ([], "unreadable_image")
    assert (rows[2]["axes"], rows[2]["reason"]) == (None, "late")
    assert rows[3]["note"] == "of 16 x 16, the picture before of 32 x 32"
    assert dict(rows[3]["axes"])["L1"] == 0


@pytest.mark.zoo
def test_without_a_caption_there_is_no_clip_t(tmp_path: Path) -> None:
    ours = opened(tmp_path, one(0, truth_caption=None))
    made = edits(edit(ours.items()[0].id, solid((1, 2, 3))))
    [row] = measure(ByTruth(Metrics(*MODELS)), ours.items(), made).to_pylist()
    assert set(dict(row["axes"])) == {"L1", "L2", "CLIP-I", "DINO"}
    [row] = measure(ByInput(InputMetrics(*MODELS)), ours.items(), made).to_pylist()
    assert set(dict(row["axes"])) == {"CLIP-dir", "CLIP-im", "CLIP-out", "L1", "DINO"}


GOOD = {f"{axis}_reason": f"so {axis}" for axis in AXES} | dict.fromkeys(AXES, 4)
VERDICT = json.dumps(GOOD)

ANSWERS = {
    "plainly": (Answer(VERDICT), None),
    "slowly": (Answer(VERDICT, delay=0.3), None),
    "with prose": (Answer(f"Let me see.\n{VERDICT}\nI hope that helps!"), None),
    "thinking": (Answer(f"<think>{VERDICT.replace('4', '1')}</think>{VERDICT}"), None),
    "rambling": (Answer("A 4, I would say."), "invalid_reply"),
    "refusing": (Answer("", refusal="I can't judge people."), "refused"),
    "filtered": (Answer("", finish_reason="content_filter"), "content_filter"),
    "cut off": (Answer(VERDICT[:40], finish_reason="length"), "cut_off"),
    "failing": (Answer(status=500, error={"message": "out of memory"}), "lm_failed"),
}
"""What a judge's server does with the row of that instruction, and the reason its row gets."""


@pytest.mark.zoo
def test_a_judge_scores_beside_the_metrics_and_a_bad_reply_costs_its_scores_alone(
    tmp_path: Path, lying_server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(openai_server, "FIRST_OUTAGE_WAIT_S", 0.01)

    def answer(body: dict[str, Any], count: int) -> Answer:
        [way] = [way for way in ANSWERS if f"Do it {way}." in prompt(body)]
        return ANSWERS[way][0]

    lying_server.answer = answer
    server = {"base_url": lying_server.url, "max_attempts": 2}
    config = JudgeConfig.model_validate(
        {"language_model": {"model": {"name": "liar"}, "server": server}, "num_retries": 1}
    )
    ours = opened(tmp_path, *(one(n, f"Do it {way}.") for n, way in enumerate(ANSWERS)))
    made = edits(*(edit(item.id, solid((9, 9, 9))) for item in ours.items()))
    yardstick = Both(ByTruth(Metrics(*MODELS)), ByJudge(ours, Judge(config, seed=0)))
    rows = measure(yardstick, ours.items(), made).to_pylist()
    metrics = {"L1", "L2", "CLIP-I", "DINO", "CLIP-T"}
    for (way, (_, reason)), row in zip(ANSWERS.items(), rows, strict=True):
        assert row["reason"] == reason, way
        axes = dict(row["axes"])
        assert axes.keys() == (metrics if reason else {*metrics, *AXES}), way
        if reason:
            assert row["detail"]
        else:
            assert {axis: axes[axis] for axis in AXES} == dict.fromkeys(AXES, 4)
            assert dict(row["reasons"]) == {axis: f"so {axis}" for axis in AXES}

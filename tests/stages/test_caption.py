import pytest

from reasonray.core.record import Row, is_rejected, reject
from reasonray.core.sections import CaptionConfig, ModelConfig
from reasonray.mini.evaluation.scenes import as_row, held_out
from reasonray.stages.caption import Caption, loops

pytestmark = pytest.mark.zoo

CONFIG = CaptionConfig(
    model=ModelConfig(name="package:reasonray/mini/zoo/captioner"), min_new_tokens=0, num_beams=1
)


@pytest.fixture(scope="module")
def stage() -> Caption:
    return Caption(CONFIG, seed=0)


@pytest.fixture
def row() -> Row:
    return as_row(held_out(1)[0], 0)


def test_a_row_without_a_caption_gets_one(stage: Caption, row: Row) -> None:
    [done] = stage([row])
    assert "background" in (done["input_caption"] or "")
    assert done["provenance"]["models"] == [
        {"stage": "caption", "name": CONFIG.model.name, "revision": None}
    ]


def test_the_sources_caption_stays(stage: Caption, row: Row) -> None:
    row["input_caption"] = "my own words"
    [done] = stage([row])
    assert done["input_caption"] == "my own words"
    assert "provenance" not in done


def test_a_blank_caption_counts_as_none(stage: Caption, row: Row) -> None:
    row["input_caption"] = "  "
    assert (stage([row])[0]["input_caption"] or "").strip()


def test_rows_of_part_one_and_rejected_rows_pass_untouched(stage: Caption, row: Row) -> None:
    first: Row = {**row, "part": "I"}
    rejected: Row = {**row}
    reject(rejected, "load", "too_small", "4 pixels")
    assert stage([first, rejected]) == [first, rejected]


def test_a_poisoned_row_is_rejected_alone(stage: Caption, row: Row) -> None:
    bad: Row = {**row, "input_image": {"bytes": b"no picture", "path": "bad.png"}}
    good, failed = stage([row, bad])
    assert not is_rejected(good)
    assert (failed["stage"], failed["reason"]) == ("caption", "unreadable_image")
    assert "bad.png" in (failed["detail"] or "")


def test_a_caption_without_a_word_is_a_rejection(
    stage: Caption, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No trained captioner stays silent on demand, so its answer is replaced.
    monkeypatch.setattr(stage.captioner, "caption", lambda images: [" . " for _ in images])
    [done] = stage([row])
    assert (done["stage"], done["reason"]) == ("caption", "empty_caption")
    assert done.get("input_caption") is None


def test_a_looping_caption_is_a_rejection(
    stage: Caption, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    looping = "a man with a hat on top of a hat on top of a hat"
    monkeypatch.setattr(stage.captioner, "caption", lambda images: [looping for _ in images])
    [done] = stage([row])
    assert (done["stage"], done["reason"]) == ("caption", "looping_caption")
    assert looping in (done["detail"] or "")


@pytest.mark.parametrize(
    "caption",
    [
        "ray ban ray ban ray ban aviator",
        "a cat with a cat on a cat",
        "a pizza with cheese and cheese and cheese",
        "a table with a cup on top of a table with a cup on top of it",
        "the the the",
    ],
)
def test_what_loops(caption: str) -> None:
    assert loops(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "a man in a suit and a man in a hat standing next to a man",
        "a cup on top of a table and a book on top of a chair",
        "a red car parked next to a red bus",
        "a dog and another dog",
        "a sheep, a sheep and a cow on a gray background",
        "",
    ],
)
def test_what_does_not_loop(caption: str) -> None:
    assert not loops(caption)

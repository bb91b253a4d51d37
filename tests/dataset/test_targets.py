from pathlib import Path

from toy_stages import recipe

from reasonray.core.record import ACCEPTED_SCHEMA, Row, to_table
from reasonray.dataset.card import CARD, write_card
from reasonray.dataset.manifest import Summary, make_manifest
from reasonray.dataset.targets import MIN_SAMPLES, NUM_COMMON, common_targets, few_dominate

EVEN = {f"thing {i}": 10 for i in range(100)}


def test_the_commonest_come_first_and_equal_ones_by_name() -> None:
    assert list(common_targets({"b": 1, "a": 1, "c": 5})) == ["c", "a", "b"]
    assert len(common_targets(EVEN)) == NUM_COMMON


def test_few_targets_that_make_up_most_samples_are_warned_of() -> None:
    assert few_dominate(EVEN) is None
    warning = few_dominate({**EVEN, "bee": 2000})
    assert warning is not None
    assert warning.startswith("70% of the targets")
    assert "of 101" in warning


def test_few_samples_and_few_targets_say_nothing() -> None:
    assert few_dominate({}) is None
    assert few_dominate({"bee": MIN_SAMPLES - 30, **dict.fromkeys("abcdefghijk", 1)}) is None
    assert few_dominate({"bee": 1000, "cat": 1000}) is None


def test_the_manifest_and_the_card_tell_the_targets(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"id": str(i), "part": "III", "target_category": name}
        for i, name in enumerate(["bee", "cup", "bee"])
    ]
    rows.append({"id": "pair", "part": "I"})
    summary = Summary()
    summary.add(to_table(rows, ACCEPTED_SCHEMA), "accepted")
    manifest = make_manifest(recipe(), summary, threshold=None, seconds=1, timings={})
    assert manifest.common_targets == {"bee": 2, "cup": 1}
    assert manifest.distinct_targets == 2
    assert manifest.target_warning is None
    warned = manifest.model_copy(update={"target_warning": "Few targets dominate."})
    write_card(tmp_path, warned, {})
    card = (tmp_path / CARD).read_text()
    assert "2 different ones; the commonest, with their samples: bee (2), cup (1)." in card
    assert "Few targets dominate." in card

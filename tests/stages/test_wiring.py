"""The contracts of the shipped stages: they fit together, and each stage keeps to its own."""

from typing import Any, cast

import pytest

from reasonray.core.recipe import load
from reasonray.core.record import PARTS, Row, is_rejected
from reasonray.sources import plan
from reasonray.stages import STAGES, build, stage_class
from reasonray.stages.stage import Stage
from reasonray.stages.wiring import check_wiring

SHIPPED = [stage_class(name) for name in STAGES]
ALWAYS_THERE = {"id", "part", "stage", "reason", "detail", "provenance"}


class Watched(dict[str, Any]):
    """A row, or its scores, that notes what is written, and what is read that was there before."""

    def __init__(self, content: Any, read: set[str], written: set[str], prefix: str = "") -> None:
        super().__init__(content)
        self.read, self.written, self.prefix = read, written, prefix
        self.own: set[str] = set()

    def copy(self) -> "Watched":
        return Watched(self, self.read, self.written)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if super().__contains__(key) else default

    def __contains__(self, key: object) -> bool:
        is_there = super().__contains__(key)
        if is_there:
            self._note(str(key))
        return is_there

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if key == "scores":
            scores = Watched(value or {}, self.read, self.written, "scores.")
            scores.own = self.own
            return scores
        self._note(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        fields = {key}
        if key == "scores":
            fields = {f"scores.{name}" for name in value.keys() - (super().get(key) or {}).keys()}
        self.own |= fields
        self.written |= fields
        super().__setitem__(key, value)

    def _note(self, key: str) -> None:
        field = self.prefix + key
        if field not in self.own and field != "scores":
            self.read.add(field)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[set[str], set[str]]]:
    """What each stage reads and writes of a mini world's rows, all parts, on the mini models."""
    quick = ["stages.rewrite.num_candidates=2", "stages.paint.num_inference_steps=2"]
    recipe = load("mini", ['sources.0.path="2"', *quick])
    rows = list(plan(recipe, tmp_path_factory.mktemp("world"), []))
    used: dict[str, tuple[set[str], set[str]]] = {}
    for name in STAGES:
        read, written = used[name] = set(), set()
        rows = build(name, recipe)([cast(Row, Watched(row, read, written)) for row in rows])
        assert not all(map(is_rejected, rows)), rows
    return used


@pytest.mark.zoo
@pytest.mark.parametrize("stage", SHIPPED)
def test_a_stage_reads_what_it_says_and_nothing_else(
    stage: type[Stage], used: dict[str, tuple[set[str], set[str]]]
) -> None:
    read, _ = used[stage.name]
    assert read - ALWAYS_THERE == {*stage.reads, *stage.may_read}


@pytest.mark.zoo
@pytest.mark.parametrize("stage", SHIPPED)
def test_a_stage_writes_what_it_says_and_nothing_else(
    stage: type[Stage], used: dict[str, tuple[set[str], set[str]]]
) -> None:
    _, written = used[stage.name]
    assert stage.writes.keys() <= written - ALWAYS_THERE <= {*stage.writes, *stage.may_write}


def test_each_shipped_stage_finds_what_it_reads() -> None:
    check_wiring(SHIPPED, PARTS)


@pytest.mark.parametrize("stage", SHIPPED)
def test_what_a_stage_may_read_is_written_before_it_for_some_part(stage: type[Stage]) -> None:
    earlier = SHIPPED[: SHIPPED.index(stage)]
    assert stage.may_read.keys() <= {
        field for each in earlier for field in {**each.writes, **each.may_write}
    }


class Spell(Stage):
    name = "spell"
    parts = ("II", "III")
    reads = {"input_caption": "of the plan"}
    writes = {"letters": "of the caption"}


class Count(Stage):
    name = "count"
    reads = {"letters": "to be counted"}


def test_a_field_that_nobody_has_written_yet_is_named_with_its_stage() -> None:
    check_wiring([Spell, Count], ["II"])
    with pytest.raises(AssertionError, match=r"stage count: reads letters, .* Part I writes"):
        check_wiring([Spell, Count], ["II", "I"])
    with pytest.raises(AssertionError, match=r"stage count: reads letters, .* Part II writes"):
        check_wiring([Count, Spell], ["II"])

import pytest

from reasonray.core.errors import RowError, RunError
from reasonray.core.record import Row, is_rejected, reject
from reasonray.stages.stage import Stage


class Shout(Stage):
    """Upper-cases captions; some captions make it fail."""

    name = "shout"
    parts = ("II", "III")
    models = [{"stage": "shout", "name": "m", "revision": None}]

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def process(self, rows: list[Row]) -> None:
        self.batches.append([row["id"] for row in rows])
        for row in rows:
            match row["input_caption"]:
                case "poison":
                    raise ZeroDivisionError("by zero")
                case "bad":
                    raise RowError("silent", "nothing to say")
                case "server gone":
                    raise RunError("the server is gone")
                case "large":
                    raise MemoryError
                case "no":
                    reject(row, self.name, "refused", "it said no")
                case text:
                    row["input_caption"] = str(text).upper()


def rows(*captions: str, part: str = "II") -> list[Row]:
    return [
        {"id": str(i), "part": part, "input_caption": text}  # type: ignore[typeddict-item]
        for i, text in enumerate(captions)
    ]


def test_a_poisoned_row_is_rejected_alone() -> None:
    first, poisoned, last = Shout()(rows("a", "poison", "b"))
    assert (first["input_caption"], last["input_caption"]) == ("A", "B")
    assert not is_rejected(first)
    assert not is_rejected(last)
    assert (poisoned["stage"], poisoned["reason"]) == ("shout", "error")
    assert poisoned["detail"] == "ZeroDivisionError: by zero"


def test_a_row_error_carries_its_reason() -> None:
    _, bad = Shout()(rows("a", "bad"))
    assert (bad["stage"], bad["reason"], bad["detail"]) == ("shout", "silent", "nothing to say")


@pytest.mark.parametrize("caption", ["server gone", "large"])
def test_what_is_no_row_s_fault_stops_the_run(caption: str) -> None:
    given = rows("a", caption)
    with pytest.raises(RunError, match=r"server is gone|not enough memory for one row"):
        Shout()(given)
    assert given == rows("a", caption)


def test_a_failed_attempt_leaves_nothing_in_the_caller_s_rows() -> None:
    given = rows("a", "poison")
    Shout()(given)
    assert given == rows("a", "poison")


def test_rejected_rows_and_other_parts_pass_untouched_and_in_order() -> None:
    given = [*rows("a"), *rows("b", part="I"), *rows("c")]
    reject(given[2], "load", "missing_image", "gone")
    stage = Shout()
    done = stage(given)
    assert done[1:] == given[1:]
    assert done[0]["input_caption"] == "A"
    assert stage.batches == [["0"]]


def test_a_batch_without_work_is_not_processed() -> None:
    stage = Shout()
    assert stage([]) == []
    stage(rows("a", part="I"))
    assert stage.batches == []


def test_the_first_rejection_stands() -> None:
    (row,) = Shout()(rows("no"))
    reject(row, "later", "other", "second")
    assert (row["stage"], row["reason"]) == ("shout", "refused")


def test_what_took_part_is_signed_in_each_row_of_its_own() -> None:
    first, second = Shout()(rows("a", "b"))
    assert first["provenance"]["models"] == Shout.models
    first["provenance"]["models"].append({"stage": "x", "name": "y", "revision": None})
    assert second["provenance"]["models"] == Shout.models
    (again,) = Shout()([second])
    assert again["provenance"]["models"] == [*Shout.models, *Shout.models]

import contextlib
import threading
import time

import pytest

from reasonray.core.errors import RunError
from reasonray.stages.alike import MANY, Failure, FailuresAlike, manner


def alike() -> FailuresAlike:
    return FailuresAlike("stage x: the work on", "Mend it", few=3)


def settle(judge: FailuresAlike, *details: str, num_well: int = 0) -> None:
    failures = [Failure(manner(detail), detail) for detail in details]
    begun(judge, len(details) + num_well)
    judge.settle(len(details) + num_well, num_well, failures)


def begun(judge: FailuresAlike, num_rows: int) -> None:
    with judge.begun(num_rows):
        pass


def test_a_few_alike_with_none_that_went_well_stop_the_run() -> None:
    message = r"^stage x: the work on 3 rows failed alike, .* yet: Took 9 s\. Mend it$"
    with pytest.raises(RunError, match=message):
        settle(alike(), "Took 7 s.", "Took 8 s.", "Took 9 s.")


def test_they_count_over_batches() -> None:
    judge = alike()
    settle(judge, "a")
    settle(judge, "a")
    with pytest.raises(RunError, match="3 rows"):
        settle(judge, "a")


def test_failures_of_different_manners_are_the_rows_own() -> None:
    settle(alike(), "a", "b", "c", "a", "b", "c")


def test_one_that_went_well_shows_that_failures_are_the_rows_own() -> None:
    judge = alike()
    settle(judge, *"a" * 10, num_well=1)
    settle(judge, *"a" * 10)


def test_many_in_a_row_stop_it_later_too() -> None:
    judge = alike()
    settle(judge, num_well=1)
    for _ in range(MANY - 1):
        settle(judge, "a")
    with pytest.raises(RunError, match=f"{MANY} rows failed alike, and none has gone well since"):
        settle(judge, "a")


def test_what_says_nothing_of_either_counts_for_neither() -> None:
    judge = alike()
    settle(judge, "a", "a")
    begun(judge, 1)
    judge.settle(1, 0, [])
    with pytest.raises(RunError):
        settle(judge, "a")


@pytest.mark.parametrize("goes_well", [True, False])
def test_failures_wait_for_what_becomes_of_the_others_in_work(goes_well: bool) -> None:
    judge = alike()
    outcomes: list[str] = []

    def fail() -> None:
        begun(judge, 1)
        try:
            judge.settle(1, 0, [Failure("a", "a")])
            outcomes.append("rejected")
        except RunError:
            outcomes.append("stopped")

    threads = [threading.Thread(target=fail) for _ in range(4)]
    with contextlib.suppress(OSError), judge.begun(1):
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        assert outcomes == []
        if not goes_well:
            raise OSError("whatever has become of this row, it says nothing")
    if goes_well:
        judge.settle(1, 1, [])
    for thread in threads:
        thread.join(10)
    assert outcomes == ["rejected" if goes_well else "stopped"] * 4

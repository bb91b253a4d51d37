"""What a stage does where a batch is too large for the memory."""

import logging
import weakref

import pytest
import torch

from reasonray.core.errors import RunError
from reasonray.core.record import Row, is_rejected
from reasonray.stages.stage import Stage


class Crowded(Stage):
    """Holds a tensor for each batch, and has room for so many rows at once."""

    name = "crowded"

    def __init__(self, room: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.room, self.error = room, error
        self.tensors: list[weakref.ref[torch.Tensor]] = []
        self.sizes: list[int] = []
        self.alive_before: list[int] = []

    def process(self, rows: list[Row]) -> None:
        self.alive_before.append(sum(ref() is not None for ref in self.tensors))
        self.sizes.append(len(rows))
        activations = torch.zeros(len(rows))
        self.tensors.append(weakref.ref(activations))
        self.forward(rows, activations)

    def forward(self, rows: list[Row], activations: torch.Tensor) -> None:
        if len(rows) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 7.91 GiB.\nAt great length.")
        for row, _ in zip(rows, activations, strict=True):
            if row["input_caption"] == "poison":
                raise ZeroDivisionError
            row["input_caption"] = str(row["input_caption"]).upper()


def rows(count: int, caption: str = "a") -> list[Row]:
    return [{"id": str(i), "part": "II", "input_caption": caption} for i in range(count)]


def test_a_retry_starts_with_the_failed_batch_s_memory_given_back() -> None:
    stage = Crowded(room=1)
    stage(rows(4))
    assert stage.alive_before == [0] * len(stage.sizes)


def test_a_batch_is_halved_until_it_fits_and_later_ones_start_at_the_size_that_did() -> None:
    stage = Crowded(room=4)
    done = stage(rows(16))
    assert [row["input_caption"] for row in done] == ["A"] * 16
    assert [row["id"] for row in done] == [str(i) for i in range(16)]
    assert stage.sizes == [16, 8, 4, 4, 4, 4]
    stage.sizes.clear()
    stage(rows(16))
    stage(rows(6))
    assert stage.sizes == [4, 4, 4, 4, 4, 2]


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    stage = Crowded(room=4)
    with caplog.at_level(logging.WARNING):
        stage(rows(16))
        stage(rows(16))
    [record] = caplog.records
    assert record.getMessage().startswith(
        "stage crowded: not enough memory for a whole batch; from now on 4 rows at once"
    )


def test_one_row_too_large_for_the_memory_stops_the_run() -> None:
    message = r"not enough memory for one row \(CUDA out of memory\. .* 7\.91 GiB\.\); give its"
    with pytest.raises(RunError, match=message):
        Crowded(room=0)(rows(3))


def test_a_poisoned_row_does_not_make_the_batches_smaller() -> None:
    stage = Crowded(room=4)
    done = stage([*rows(3), *rows(1, "poison")])
    assert [is_rejected(row) for row in done] == [False] * 3 + [True]
    stage(rows(4))
    assert stage.sizes == [4, 1, 1, 1, 1, 4]


@pytest.mark.parametrize("room", [1, 3, 8])
def test_what_fits_changes_no_result(room: int) -> None:
    mixed = [*rows(5), *rows(1, "poison"), *rows(2)]
    assert Crowded(room)(mixed) == Crowded(room=100)(mixed)


def test_torch_s_cpu_allocator_says_it_in_an_error_of_another_class() -> None:
    class Vast(Crowded):
        def forward(self, rows: list[Row], activations: torch.Tensor) -> None:
            if len(rows) > self.room:
                torch.empty(1 << 60)
            super().forward(rows, activations)

    stage = Vast(room=2)
    assert [is_rejected(row) for row in stage(rows(4))] == [False] * 4
    assert stage.sizes == [4, 2, 2]
    with pytest.raises(RunError, match="not enough memory for one row"):
        Vast(room=0)(rows(1))


def test_the_interpreter_s_own_memory_error_is_one() -> None:
    stage = Crowded(room=2, error=MemoryError)
    stage(rows(4))
    assert stage.sizes == [4, 2, 2]

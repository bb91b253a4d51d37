"""Retries and errors on the way to an editor, with a stand-in for Serve's handle.

The handle's part is played, as processes that die at a chosen step cannot be had in a second;
test_faults.py kills real ones.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from reasonray.serving.errors import ApiError, late
from reasonray.serving.ingress import RemoteEditors
from reasonray.serving.task import Event, Facts, FinishedFile, PartialFile

FACTS = Facts(32, 8, 4, 2.0, 1.5, 0)
DIED = ActorDiedError()
FULL = BackPressureError(num_queued_requests=32, max_queued_requests=32)
MISSING = DeploymentUnavailableError(DeploymentID("editor", "reasonray"))
A, B, C = (PartialFile(index, b"%d" % index) for index in range(3))
END = FinishedFile(b"end")

Step = Event | Exception | Facts


class Call:
    """What a handle's call gives: events, then an exception."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps, self.cancelled = iter(steps), False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        step = next(self._steps, None)
        if step is None:
            raise StopAsyncIteration
        if isinstance(step, Exception):
            raise step
        return cast(Event, step)

    def __await__(self) -> Any:
        return self.__anext__().__await__()

    def cancel(self) -> None:
        self.cancelled = True
        raise RuntimeError("as Serve does, of a call that has failed")


class Handle:
    """Answers the first call with the first of `scripts`, and so on."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts, self.calls = list(scripts), list[Call]()
        self.edit = self.facts = self.ping = self

    def options(self, **options: Any) -> "Handle":
        return self

    def remote(self, *arguments: Any) -> Call:
        self.calls.append(Call(self.scripts[len(self.calls)]))
        return self.calls[-1]


def edited(handle: Handle) -> list[Event]:
    async def work() -> list[Event]:
        editors = RemoteEditors({"a": handle})  # type: ignore[dict-item]
        return [event async for event in editors.edit("a", None)]  # type: ignore[arg-type]

    return asyncio.run(work())


def refused(*scripts: Sequence[Step]) -> ApiError:
    with pytest.raises(ApiError) as error:
        edited(Handle(*scripts))
    return error.value


def test_an_edit_comes_through() -> None:
    handle = Handle([A, B, END])
    assert edited(handle) == [A, B, END]
    assert handle.calls[0].cancelled


@pytest.mark.parametrize("before", [[], [A], [A, B]])
def test_another_process_takes_over_and_nothing_is_shown_twice(before: list[Step]) -> None:
    assert edited(Handle([*before, DIED], [A, B, C, END])) == [A, B, C, END]


def test_one_that_is_lost_twice_is_given_up() -> None:
    error = refused([A, DIED], [A, B, DIED])
    assert (error.status, error.code, error.headers) == (503, "replica_lost", {"Retry-After": "1"})


def test_a_full_queue_says_when_to_come_again() -> None:
    error = refused([FULL])
    assert (error.status, error.code) == (429, "server_busy")
    assert 1 <= int(error.headers["Retry-After"]) <= 30


def test_what_is_not_there_yet_is_starting() -> None:
    assert (refused([MISSING]).status, refused([MISSING]).code) == (503, "starting")


def test_an_editor_s_own_answer_is_the_answer() -> None:
    packed = RayTaskError("edit", "traceback", late(60))
    assert refused([A, packed]).code == "timeout"


def test_a_bug_is_not_tried_again() -> None:
    handle = Handle([RayTaskError("edit", "traceback", ValueError("bug"))], [END])
    with pytest.raises(ValueError, match="bug"):
        edited(handle)
    assert len(handle.calls) == 1


def test_who_stops_listening_cancels_the_call() -> None:
    handle = Handle([A, B, END])

    async def work() -> None:
        events = RemoteEditors({"a": handle}).edit("a", None)  # type: ignore[dict-item, arg-type]
        await anext(events)
        await events.aclose()

    asyncio.run(work())
    assert handle.calls[0].cancelled


@pytest.mark.parametrize(
    ("answer", "is_ready"), [(FACTS, True), (FULL, True), (MISSING, False), (DIED, False)]
)
def test_a_busy_editor_is_ready_and_a_dead_one_not(answer: Any, is_ready: bool) -> None:
    editors = RemoteEditors({"a": Handle([answer])})  # type: ignore[dict-item]
    assert asyncio.run(editors.ready()) is is_ready
    idle = RemoteEditors({"a": Handle()}, idle=["a"])  # type: ignore[dict-item]
    assert asyncio.run(idle.ready())


def test_an_editor_that_has_just_answered_is_not_asked() -> None:
    async def work() -> bool:
        handle = Handle([FACTS])
        editors = RemoteEditors({"a": handle})  # type: ignore[dict-item]
        assert await editors.facts("a") == FACTS
        return await editors.ready()

    assert asyncio.run(work())

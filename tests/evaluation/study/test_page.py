"""The page in Chromium, in front of the real service, by keys, mouse and touch."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from served_study import ServedStudy, served
from studies import study

from reasonray.evaluation.study.figures import measured
from reasonray.evaluation.study.store import Store

pytestmark = pytest.mark.slow

MAX_WAIT_MS = 60_000
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True,
    "color_scheme": "dark",
}  # fmt: skip

Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Opens a link; at the end nothing has failed in the page, and it has asked nobody else."""
    contexts: list[BrowserContext] = []
    addresses: list[str] = []
    faults: list[str] = []

    def open_page(address: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(MAX_WAIT_MS)
        page.on("request", lambda request: addresses.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    # What the browser itself says where the server is away or refuses.
    own = ("net::ERR_", "the server responded with")
    assert [fault for fault in faults if not any(word in fault for word in own)] == []
    assert [each for each in addresses if not each.startswith("http://127.0.0.1:")] == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two workers, who both see the same three items of each kind."""
    return study(tmp_path, num_items=3, num_workers=2, quota=3)


@pytest.fixture
def service(tmp_path: Path, store: Store) -> Iterator[ServedStudy]:
    with served(tmp_path / "study") as service:
        yield service


def ready(page: Page, number: int) -> None:
    """Wait until the question of this number can be answered."""
    expect(page.locator("#count")).to_have_text(
        re.compile(f"^{number} of 6, "), timeout=MAX_WAIT_MS
    )
    expect(page.locator("#candidates .picture").first).to_be_enabled(timeout=MAX_WAIT_MS)


def shown(page: Page, place: int) -> tuple[str, str]:
    """The instruction, and the file of the candidate at a place from 1."""
    image = page.locator("#candidates .picture img").nth(place - 1)
    return page.locator("h1#instruction").inner_text(), str(image.get_attribute("data-name"))


class Voter:
    """One at a page; remembers what was chosen last: instruction -> file."""

    def __init__(self, page: Page, *, taps: bool) -> None:
        self.page, self._taps = page, taps
        self.chosen: dict[str, str] = {}

    def choose(self, place: int) -> None:
        instruction, file = shown(self.page, place)
        self.chosen[instruction] = file
        if self._taps:
            self.page.locator("#candidates .picture").nth(place - 1).tap()
        else:
            self.page.keyboard.press(str(place))


def vote_together(voters: list[Voter], number: int, places: tuple[int, int]) -> None:
    """Both answer the question of this number, none waits for the other's answer to be stored."""
    for voter in voters:
        ready(voter.page, number)
    for voter, place in zip(voters, places, strict=True):
        voter.choose(place)


def test_two_workers_vote_through_and_no_vote_is_lost_or_doubled(
    opened: Opened, store: Store, service: ServedStudy
) -> None:
    desk, phone = opened(service.links[0]), opened(service.links[1], **PHONE)
    voters = [Voter(desk, taps=False), Voter(phone, taps=True)]
    vote_together(voters, 1, (1, 3))
    vote_together(voters, 2, (3, 2))
    # A reload in the middle goes on where it was.
    ready(desk, 3)
    instruction = shown(desk, 1)[0]
    desk.reload()
    ready(desk, 3)
    assert shown(desk, 1)[0] == instruction
    expect(desk.locator("#count")).to_have_text("3 of 6, 2 answered")
    # A second answer to one question replaces the first.
    for number in (2, 1):
        desk.keyboard.press("ArrowLeft")
        ready(desk, number)
    expect(desk.locator("#candidates .picture").first).to_have_attribute("aria-pressed", "true")
    voters[0].choose(2)
    # The server is killed: what was chosen meanwhile is saved when there is one again.
    ready(desk, 3)
    ready(phone, 3)
    service.kill()
    vote_together(voters, 3, (1, 1))
    for page in (desk, phone):
        expect(page.locator("#status")).to_contain_text("Not saved yet", timeout=MAX_WAIT_MS)
        expect(page.locator("#count")).to_have_text("3 of 6, 2 answered")
    assert len(store.picks()) == 4
    service.start()
    # Killed while an answer may be on its way.
    vote_together(voters, 4, (3, 3))
    service.kill()
    service.start()
    vote_together(voters, 5, (2, 1))
    vote_together(voters, 6, (3, 1))
    for page in (desk, phone):
        expect(page.get_by_role("heading")).to_have_text("All are answered. Thank you!")
        page.reload()
        expect(page.get_by_role("heading")).to_have_text("All are answered. Thank you!")
    assert_counted(store, voters)


def assert_counted(store: Store, voters: list[Voter]) -> None:
    """What counts is what each has chosen last, once."""
    picks = store.picks()
    assert len(picks) == 12
    for worker, voter in enumerate(voters, start=1):
        counted = {
            pick.question.instruction: pick.question.after[pick.editor]
            for pick in picks
            if pick.worker == worker
        }
        assert counted == voter.chosen
    figures = measured(store)
    assert figures.workers == [(6, 6), (6, 6)]
    shares = [share for kind in figures.kinds.values() for share in kind.editors.values()]
    assert sum(share.picks for share in shares) == 12
    # One was replaced; an answer whose reply the kill has cut off came twice, and counts once.
    assert 1 <= figures.num_replaced <= 3


def test_a_bad_link_says_what_to_do(opened: Opened, service: ServedStudy) -> None:
    for end in ("", "x/", "/"):
        page = opened(service.links[0][:-2] + end)
        expect(page.get_by_role("heading")).to_have_text("This link is none of the study's")
    short = opened(service.links[0].rstrip("/"))
    ready(short, 1)


def test_keys_alone_answer_enlarge_and_go_back(
    opened: Opened, store: Store, service: ServedStudy
) -> None:
    page = opened(service.links[0])
    ready(page, 1)
    page.keyboard.press("z")
    dialog = page.locator("#large")
    expect(dialog).to_be_visible()
    expect(page.locator("#large-name")).to_have_text("Before")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#large-name")).to_have_text("Picture 3")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("ArrowRight")
    ready(page, 2)
    # From the instruction, which has the focus: before, picture 1, enlarge it, picture 2.
    for _ in range(4):
        page.keyboard.press("Tab")
    _, file = shown(page, 2)
    page.keyboard.press("Enter")
    ready(page, 3)
    assert [task.answer for task in store.tasks(1)] == [None, file, None, None, None, None]
    page.keyboard.press("z")
    page.keyboard.press("ArrowRight")
    _, file = shown(page, 1)
    page.get_by_role("button", name="This is the best").press("Enter")
    ready(page, 4)
    assert store.tasks(1)[2].answer == file
    for key in ("9", "0", "x", "Control+1"):
        page.keyboard.press(key)
    # At the end it leads back to what was passed over.
    for number in (5, 6):
        page.keyboard.press("ArrowRight")
        ready(page, number)
    page.keyboard.press("1")
    ready(page, 1)
    assert [bool(task.answer) for task in store.tasks(1)] == [False, True, True, False, False, True]


def test_a_double_click_is_one_answer(opened: Opened, store: Store, service: ServedStudy) -> None:
    page = opened(service.links[0])
    ready(page, 1)
    # Once more, 0.1 s after the next question's picture is there.
    page.evaluate(
        """() => {
          const candidates = document.getElementById("candidates");
          const watched = { attributes: true, attributeFilter: ["src"], subtree: true };
          window.again = new Promise((resolve) => {
            new MutationObserver(() => setTimeout(() => {
              const picture = candidates.querySelector(".picture");
              resolve(picture.disabled);
              picture.click();
            }, 100)).observe(candidates, watched);
          });
        }"""
    )
    page.locator("#candidates .picture").first.dblclick()
    assert page.evaluate("window.again")
    ready(page, 2)
    assert [bool(task.answer) for task in store.tasks(1)] == [True] + [False] * 5


def test_nothing_can_be_chosen_before_all_pictures_are_there(
    opened: Opened, store: Store, service: ServedStudy
) -> None:
    page = opened(f"{service.links[0]}nothing")
    is_away = True

    def answer(route: Route) -> None:
        route.abort() if is_away else route.continue_()

    page.route(re.compile(f"pictures/{store.tasks(1)[0].candidates[2]}"), answer)
    page.goto(service.links[0])
    expect(page.locator("#status")).to_contain_text("The pictures are not all here yet")
    page.keyboard.press("1")
    expect(page.locator("#candidates .picture").first).to_be_disabled()
    is_away = False
    ready(page, 1)
    expect(page.locator("#status")).to_be_empty()
    assert store.picks() == []


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (1280, 720), (1920, 1080)])
def test_a_question_fits_the_window(
    size: tuple[int, int], opened: Opened, service: ServedStudy
) -> None:
    page = opened(service.links[0], viewport={"width": size[0], "height": size[1]})
    ready(page, 1)
    width, height = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert width <= size[0]
    if size[0] > 1000:
        assert height <= size[1]
    boxes = [each.bounding_box() for each in page.locator("#candidates .picture").all()]
    assert all(box is not None and box["width"] >= 100 for box in boxes)
    page.keyboard.press("z")
    box = page.locator("#large-close").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= size[1]

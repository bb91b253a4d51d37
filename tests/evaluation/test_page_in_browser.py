"""The page of an evaluation in Chromium, from the disk: sorted, filtered, by keys, on a phone."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from browser import chromium
from finished_evaluation import SPECS, everyday, figures, finished, measured, subject
from playwright.sync_api import Browser, BrowserContext, Page, expect
from toy_editors import pair

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output, own = everyday(tmp_path_factory.mktemp("evaluation"))
    finished(output, own)
    return output


@pytest.fixture
def opened(browser: Browser, output: Path) -> Iterator[Opened]:
    """Opens the page; at the end nothing has failed in it, and it has asked for nothing else."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []
    address = (output / "index.html").as_uri()

    def open_page(**options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.partition("#")[0] == address or request.url.startswith("data:")
                else faults.append(request.url)
            ),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def shown(page: Page) -> list[str]:
    """The ids of the items that can be seen, in their order."""
    return page.locator(".card:visible .badges code").all_inner_texts()


def rows(output: Path, editor: str) -> dict[str, dict[str, Any]]:
    table = pq.read_table(output / "rows/ours.parquet").to_pylist()
    return {row["id"]: row for row in table if row["editor"] == editor}


def test_items_are_sorted_by_a_measure_of_an_editor(opened: Opened, output: Path) -> None:
    page = opened()
    page.get_by_label("Sort by").select_option(label="mine: DINO")
    page.get_by_label("Order", exact=True).select_option("lowest first")
    values = {name: row["DINO"] for name, row in rows(output, "mine").items()}
    [failed] = [name for name, value in values.items() if value is None]
    expected = sorted(set(values) - {failed}, key=values.__getitem__)
    assert shown(page) == [*expected, failed]
    page.get_by_label("Order", exact=True).select_option("highest first")
    assert shown(page) == [*expected[::-1], failed]
    page.get_by_label("Sort by").select_option(label="place in the benchmark")
    assert shown(page) == list(values)[::-1]


def test_items_are_filtered_by_group_kind_and_failure(opened: Opened) -> None:
    page = opened()
    everything = shown(page)
    page.get_by_label("Group", exact=True).select_option(label="reasoning (6)")
    assert [name for name in everything if name.endswith("#reasoning")] == shown(page)
    page.get_by_label("Kind of reasoning", exact=True).select_option(label="causal (6)")
    assert len(shown(page)) == 3
    expect(page.get_by_role("status")).to_have_text("3 of these 12 match.")
    page.get_by_label("Failures only").check()
    [failed] = shown(page)
    assert failed == "III/toy/0000/0#reasoning"
    page.get_by_label("Group", exact=True).select_option("direct (6)")
    assert shown(page) == []
    for label in ("Group", "Kind of reasoning"):
        page.get_by_label(label, exact=True).select_option("all")
    page.get_by_label("Failures only").uncheck()
    assert shown(page) == everything
    expect(page.get_by_role("status")).to_have_text("")


def test_one_measure_is_shown_by_kind(opened: Opened) -> None:
    page = opened()
    tables = page.get_by_role("region", name=re.compile(" by part$"))
    expect(tables).to_have_count(1)
    page.get_by_label("Measure", exact=True).select_option("CLIP-T")
    expect(page.get_by_role("region", name="CLIP-T by part")).to_be_visible()
    expect(tables).to_have_count(1)


def test_keys_alone_reach_everything(opened: Opened, output: Path) -> None:
    page = opened()
    names = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        names.add(
            page.evaluate(
                "document.activeElement.ariaLabel || document.activeElement.name "
                "|| document.activeElement.tagName"
            )
        )
    assert {"Figures of direct, reasoning", "measure", "order", "direction", "failed"} <= names
    page.locator("[name=failed]").focus()
    page.keyboard.press("Space")
    assert len(shown(page)) == 1
    page.locator("[name=order]").focus()
    page.keyboard.press("End")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_label("Sort by")).to_have_value(re.compile(r"\d+"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_in_its_width(opened: Opened, scheme: str) -> None:
    page = opened(**PHONE, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_label("Group", exact=True).select_option(label="direct (6)")
    assert len(shown(page)) == 6
    panels = page.locator(".card:visible .panels").first.locator("figure")
    boxes = [panel.bounding_box() for panel in panels.all()]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(18, 19, 22)") == (scheme == "dark")


def test_markup_in_an_instruction_is_text(browser: Browser, tmp_path: Path) -> None:
    attack = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
    hostile = pair(0, id=f"III/toy/{attack}", part=attack,
                   instructions=[{"kind": attack, "text": attack}])  # fmt: skip
    own = subject(tmp_path / "benchmark", [hostile])
    measured(tmp_path / "out", own, "mine", [own.items[0].pictures[0].open()], [figures(0)])
    path = Path(str(finished(tmp_path / "out", own, SPECS[2:])))
    page = browser.new_page()
    page.goto(path.as_uri())
    expect(page.locator("blockquote")).to_have_text(attack)
    page.get_by_label("Group", exact=True).select_option(label=f"{attack} (1)")
    assert len(shown(page)) == 1
    assert page.evaluate("window.hit === undefined")
    page.close()

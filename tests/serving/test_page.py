"""The page in Chromium, in front of a real editor, by mouse, keys and touch."""

import io
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from browser import chromium
from form_parts import photograph
from local_editors import LocalEditors, api
from playwright.sync_api import Browser, BrowserContext, Page, expect
from served_editor import editor_folder

from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.editor import LocalEditor
from reasonray.serving.keys import new_key

pytestmark = pytest.mark.slow

SIZE = (80, 56)
PROMPT = "Show what it makes instead."
MAX_WAIT_MS = 60_000

Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServingConfig:
    folder = editor_folder(tmp_path_factory.mktemp("served") / "editor")
    return ServingConfig(models={"tiny": ServedModel(editor=str(folder))}, anonymous=True)


@pytest.fixture(scope="module")
def editors(config: ServingConfig) -> LocalEditors:
    return LocalEditors({"tiny": LocalEditor(config.models["tiny"], config)})


@pytest.fixture(scope="module")
def url(config: ServingConfig, editors: LocalEditors) -> Iterator[str]:
    with api(editors, config) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, url: str) -> Iterator[Opened]:
    """Opens the page; at the end nothing has failed in it, and it has asked nobody else."""
    contexts: list[BrowserContext] = []
    addresses: list[str] = []
    faults: list[str] = []

    def open_page(address: str = url, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(MAX_WAIT_MS)
        page.on("request", lambda request: addresses.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.goto(address)
        page.wait_for_function("document.querySelectorAll('#examples img').length")
        return page

    yield open_page
    for context in contexts:
        context.close()
    # What the browser itself says of an error that the API answers.
    assert [fault for fault in faults if "the server responded with" not in fault] == []
    local = re.compile(r"(http://127\.0\.0\.1:|blob:http://127\.0\.0\.1:|data:)")
    assert addresses
    assert [address for address in addresses if not local.match(address)] == []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a photo; of 'mine'.png"
    photograph(SIZE).save(path)
    return path


def choose(page: Page, picture: Path) -> None:
    page.locator("#image").set_input_files(picture)
    page.locator("#frame").wait_for()


def edit(page: Page, prompt: str = PROMPT) -> None:
    page.get_by_label("Instruction").fill(prompt)
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#result-tools")).to_be_visible(timeout=MAX_WAIT_MS)


def downloaded(page: Page) -> np.ndarray:
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"edited-[0-9]+\.png", download.value.suggested_filename)
    return pixels(Path(download.value.path()).read_bytes())


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(file)).convert("RGB")).astype(int)


def shown_part(page: Page) -> str:
    """How much of the edit is cut off at its left."""
    return str(page.locator("#after").evaluate("(image) => getComputedStyle(image).clipPath"))


def fill_setting(page: Page, label: str, value: str) -> None:
    if page.locator("#settings").get_attribute("open") is None:
        page.get_by_text("Settings", exact=True).click()
    page.get_by_label(label, exact=True).fill(value)


def test_an_edit_comes_step_by_step_and_changes_nothing_outside_the_mask(
    opened: Opened, source: Path
) -> None:
    page = opened()
    choose(page, source)
    page.get_by_role("button", name="Draw a mask").click()
    box = page.locator("#painting").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 8, y, steps=4)
    page.mouse.up()
    page.evaluate(
        """() => {
          window.pictures = new Set();
          const seen = ([{ target }]) => window.pictures.add(target.src);
          const options = { attributes: true, attributeFilter: ["src"] };
          new MutationObserver(seen).observe(document.getElementById("after"), options);
        }"""
    )
    edit(page)
    assert page.evaluate("window.pictures.size") == 4  # three on the way
    before, after = pixels(source.read_bytes()), downloaded(page)
    changed = np.abs(after - before).max(axis=2) > 0
    assert changed[SIZE[1] // 2, SIZE[0] // 4 : SIZE[0] * 3 // 8].all()
    assert not changed[:, SIZE[0] // 2 :].any()
    assert not changed[: SIZE[1] // 4].any()


def test_keys_alone_draw_a_mask_edit_and_compare(opened: Opened, source: Path) -> None:
    page = opened()
    choose(page, source)
    page.get_by_role("button", name="Draw a mask").press("Enter")
    expect(page.locator("#painting")).to_be_focused()
    for key in ("ArrowLeft", "Space", "Shift+ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(page.get_by_text("Outside the mask every pixel stays.")).to_be_visible()
    page.get_by_label("Instruction").focus()
    page.keyboard.type(PROMPT)
    page.keyboard.press("Enter")
    expect(page.locator("#result-tools")).to_be_visible(timeout=MAX_WAIT_MS)
    changed = np.abs(downloaded(page) - pixels(source.read_bytes())).max(axis=2) > 0
    assert changed[SIZE[1] // 2, SIZE[0] // 2]
    assert changed.mean() < 0.2
    slider = page.get_by_label("Before and after")
    slider.focus()
    parts = []
    for key in ("Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        parts.append(shown_part(page))
    assert parts == ["inset(0px 0px 0px 0%)", "inset(0px 0px 0px 1%)", "inset(0px 0px 0px 100%)"]
    expect(slider).to_have_attribute("aria-valuetext", "100 % before")


def test_a_seed_that_was_shown_makes_the_same_picture(opened: Opened, source: Path) -> None:
    page = opened()
    choose(page, source)
    edit(page)
    first = downloaded(page)
    page.get_by_role("button", name="Use this seed").click()
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#history li")).to_have_count(2, timeout=MAX_WAIT_MS)
    assert np.abs(downloaded(page) - first).max() <= 1
    fill_setting(page, "Guidance scale", "9")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#history li")).to_have_count(3, timeout=MAX_WAIT_MS)
    assert np.abs(downloaded(page) - first).max() > 1


def test_stopping_frees_the_model_within_a_second(
    opened: Opened, source: Path, editors: LocalEditors, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = editors.editors["tiny"].engine
    unet = engine.pipeline.unet
    forward = unet.forward

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return forward(*arguments, **options)

    monkeypatch.setattr(unet, "forward", slow)
    page = opened()
    choose(page, source)
    fill_setting(page, "Steps", "100")  # 5 s at least
    page.get_by_label("Instruction").fill(PROMPT)
    status = page.locator("#status")

    def seconds_to_stop() -> float:
        page.get_by_role("button", name="Edit", exact=True).click()
        stop = page.get_by_role("button", name="Stop")
        expect(stop).to_be_focused()
        expect(status).to_have_text("Picture 1 of 3 on the way", timeout=MAX_WAIT_MS)
        assert engine.num_running == 1
        stop.click()
        begin = time.monotonic()
        while engine.num_running:
            assert time.monotonic() - begin < 10
            time.sleep(0.01)
        seconds = time.monotonic() - begin
        expect(status).to_have_text("Stopped.")
        return seconds

    # A busy machine may be late with anything, though not each time.
    assert any(seconds_to_stop() < 1 for _ in range(5))
    expect(page.locator("#history li")).to_have_count(0)
    monkeypatch.undo()
    edit(page)


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("Steps", "500", "num_inference_steps: expected a whole number from 1 to 100, not '500'"),
        ("Seed", "lucky", "seed: expected a whole number from 0 to"),
        ("Image guidance scale", "99", "image_guidance_scale: expected a number from 0 to 10"),
        ("Instruction", "", "prompt: is empty"),
    ],
)
def test_an_error_of_the_api_stands_beside_its_field(
    opened: Opened, source: Path, label: str, value: str, message: str
) -> None:
    page = opened()
    choose(page, source)
    if label != "Instruction":
        page.get_by_label("Instruction").fill(PROMPT)
        fill_setting(page, label, value)
    page.get_by_role("button", name="Edit", exact=True).click()
    field = page.get_by_label(label, exact=True)
    expect(field).to_have_attribute("aria-invalid", "true", timeout=MAX_WAIT_MS)
    expect(field).to_be_focused()
    [name] = [
        each for each in str(field.get_attribute("aria-describedby")).split() if "err" in each
    ]
    expect(page.locator(f"#{name}")).to_contain_text(message)


def test_what_is_no_picture_is_said(opened: Opened, tmp_path: Path) -> None:
    page = opened()
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#image-error")).to_have_text("Choose a picture first.")
    (tmp_path / "a.txt").write_text("words")
    page.locator("#image").set_input_files(tmp_path / "a.txt")
    expect(page.locator("#image-error")).to_contain_text("a.txt: this browser cannot show it")


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(opened: Opened, way: str) -> None:
    page = opened()
    page.evaluate(
        """async (way) => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
          canvas.getContext("2d").fillRect(0, 0, 30, 30);
          const blob = await new Promise((resolve) => canvas.toBlob(resolve));
          const data = new DataTransfer();
          data.items.add(new File([blob], "new.png", { type: "image/png" }));
          const options = { bubbles: true, cancelable: true };
          document.body.dispatchEvent(way === "paste"
            ? new ClipboardEvent("paste", { ...options, clipboardData: data })
            : new DragEvent("drop", { ...options, dataTransfer: data }));
        }""",
        way,
    )
    edit(page)
    assert downloaded(page).shape == (48, 64, 3)


def test_an_example_has_its_instruction(opened: Opened) -> None:
    page = opened()
    for image in page.locator("#examples img").all():
        image.click()
        expect(page.locator("#before")).to_have_attribute("alt", str(image.get_attribute("alt")))
        expect(page.get_by_label("Instruction")).not_to_have_value("")
    expect(page.get_by_role("link", name="CC BY-SA 4.0")).to_be_visible()
    page.locator("#direct button").first.click()
    expect(page.get_by_label("Instruction")).to_have_value(re.compile("banana|candle|car"))


def test_the_session_remembers_and_a_result_is_edited_further(opened: Opened, source: Path) -> None:
    page = opened()
    choose(page, source)
    edit(page, "first")
    first = downloaded(page)
    page.get_by_role("button", name="Edit this further").click()
    expect(page.get_by_label("Instruction")).to_be_focused()
    before = page.locator("#before").get_attribute("src")
    assert before == page.locator("#download").get_attribute("href")
    edit(page, "second")
    assert not np.array_equal(downloaded(page), first)
    page.locator("#history").get_by_text("first").click()
    expect(page.get_by_label("Instruction")).to_have_value("first")
    assert np.array_equal(downloaded(page), first)
    assert page.locator("#before").get_attribute("src") != before


def test_the_curl_command_makes_the_same_picture(
    opened: Opened, source: Path, tmp_path: Path
) -> None:
    page = opened()
    choose(page, source)
    page.get_by_role("button", name="Draw a mask").press("Enter")
    page.keyboard.press("Space")
    edit(page, "@it's; 'quoted'\n$HOME")
    edited = downloaded(page)
    page.get_by_role("button", name="Copy as curl").click()
    for link in page.locator("#curl-files a").all():
        with page.expect_download() as download:
            link.click()
        shutil.copy(download.value.path(), tmp_path / str(link.get_attribute("download")))
    command, *decoding = page.locator("#curl-text").inner_text().split("| ")
    assert decoding == ["jq -r '.data[0].b64_json' ", "base64 -d > edited.png"]
    # What jq does: it need not be installed where this runs.
    jq = 'python3 -c \'import json, sys; print(json.load(sys.stdin)["data"][0]["b64_json"])\''
    command = f"{command}| {jq} | base64 -d > edited.png"
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True, timeout=60)
    assert np.abs(pixels((tmp_path / "edited.png").read_bytes()) - edited).max() <= 1


def test_a_key_is_asked_for_and_stays_in_the_tab(
    opened: Opened, config: ServingConfig, editors: LocalEditors, source: Path, tmp_path: Path
) -> None:
    key = new_key(tmp_path / "keys", "tester")
    keyed = config.model_copy(update={"anonymous": False, "keys": str(tmp_path / "keys")})
    with api(editors, keyed) as port:
        page = opened(f"http://127.0.0.1:{port}/")
        field = page.get_by_label("Key", exact=True)
        expect(field).to_be_focused()
        field.fill("wrong")
        field.press("Enter")
        expect(page.locator("#key-error")).to_contain_text("key")
        field.fill(key)
        field.press("Enter")
        expect(field).to_be_hidden()
        choose(page, source)
        edit(page)
        page.reload()
        expect(page.locator("#num_inference_steps")).to_have_value("4")
        choose(page, source)
        edit(page)
        page.get_by_role("button", name="Copy as curl").click()
        text = page.locator("#curl-text").inner_text()
        assert '"Authorization: Bearer $KEY"' in text
        assert key not in text


def test_a_phone_shows_all_of_it_without_scrolling_sideways(opened: Opened, source: Path) -> None:
    phone = {"width": 360, "height": 640}
    page = opened(viewport=phone, has_touch=True, is_mobile=True, color_scheme="dark")

    def overflow() -> int:
        return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    assert overflow() <= 0
    choose(page, source)
    page.get_by_role("button", name="Draw a mask").tap()
    fill_setting(page, "Steps", "2")
    assert overflow() <= 0
    edit(page, "a long sentence about a Donaudampfschifffahrtsgesellschaftskapitän " * 3)
    assert overflow() <= 0
    page.locator("#frame").scroll_into_view_if_needed()
    box = page.locator("#frame").bounding_box()
    assert box is not None
    finger = page.context.new_cdp_session(page)
    for kind, share in (
        ("Start", 0.2),
        ("Move", 0.4),
        ("Move", 0.7),
        ("Move", 0.75),
        ("End", None),
    ):
        point = {"x": box["x"] + (share or 0) * box["width"], "y": box["y"] + 40}
        points = [] if share is None else [point]
        finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    assert re.fullmatch(r"inset\(0px 0px 0px 7[45](\.\d+)?%\)", shown_part(page))
    page.get_by_role("button", name="Copy as curl").tap()
    assert overflow() <= 0
    # Dark: what is written can be read.
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 19, 22)"

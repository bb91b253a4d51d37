"""The page's pictures: its examples, and the README's screenshot of it.

    python tests/benchmarks/serve_page.py examples
    python tests/benchmarks/serve_page.py screenshot out/editor/editor

The first draws `reasonray/serving/page/*.webp`. The second serves an editor, edits an example in
Chromium and writes docs/serving.png.
"""

import io
import sys
from pathlib import Path
from typing import Any

import PIL.Image

from reasonray.serving.api import PAGE
from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.editor import LocalEditor
from reasonray.sources.mini.scene import Scene, SceneObject, scaled
from reasonray.sources.mini.world import COLOURS, render

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "helpers"))

from browser import chromium  # noqa: E402
from local_editors import LocalEditors, api  # noqa: E402

SCREENSHOT = ROOT / "docs" / "serving.png"

SCENES = {
    "bee": ("green", None, (("bee", 8, 16, 40), ("teapot", 56, 40, 32))),
    "cow": ("blue", 0.7, (("cow", 8, 40, 40), ("tree", 56, 24, 40))),
    "mouse": ("yellow", None, (("mouse", 8, 32, 40), ("key", 56, 40, 32))),
    "caterpillar": ("pink", None, (("caterpillar", 32, 32, 40),)),
    "candle": ("purple", None, (("candle", 8, 32, 40), ("key", 56, 24, 32))),
}
"""File -> background, horizon, objects with left, top and side in a picture of 96 pixels."""

SCALE = 4

SEED = 3


def draw_examples() -> None:
    """Paint the scenes, four times as large as the tiny editor works at."""
    for name, (colour, horizon, objects) in SCENES.items():
        rgb = COLOURS[colour]
        red, green, blue = (round(0.9 * value) for value in rgb)
        items = tuple(SceneObject(*item) for item in objects)
        scene = scaled(Scene(colour, rgb, (red, green, blue), horizon, items), SCALE)
        picture = PIL.Image.fromarray(render(scene))
        picture.save(PAGE / f"{name}.webp", lossless=True, quality=100, method=6)


def take_screenshot(editor: str) -> None:
    """Serve the editor, and look at the page after four edits."""
    config = ServingConfig(models={"mini": ServedModel(editor=editor)}, anonymous=True)
    editors = LocalEditors({"mini": LocalEditor(config.models["mini"], config)})
    with api(editors, config) as port, chromium() as browser:
        page = browser.new_page(viewport={"width": 1240, "height": 860}, device_scale_factor=1.2)
        page.goto(f"http://127.0.0.1:{port}")
        for example in ("candle", "mouse", "cow", "bee"):
            edit(page, example)
        page.get_by_label("Before and after").fill("30")
        page.mouse.move(0, 0)
        shot = PIL.Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shot.save(SCREENSHOT, optimize=True)


def edit(page: Any, example: str) -> None:
    """Choose an example and wait for what comes of its instruction."""
    count = page.locator("#history li").count()
    page.locator(f"#examples img[src='{example}.webp']").click()
    page.locator(f"#before[src][alt*='{example}']").wait_for()
    page.locator("#seed").evaluate(f"(input) => (input.value = '{SEED}')")
    page.get_by_role("button", name="Edit", exact=True).click()
    page.locator("#history li").nth(count).wait_for(timeout=120_000)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["examples"]:
            draw_examples()
        case ["screenshot", editor]:
            take_screenshot(editor)
        case _:
            sys.exit(__doc__)

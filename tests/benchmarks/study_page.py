"""The README's screenshot of a user study: python tests/benchmarks/study_page.py docs/study.png.

Four made-up editors of pictures of the mini world: one does what it is told, one brings in
something else, one changes the neighbour, too, one changes nothing. With a folder in place of the
file, a desk's and a phone's views of each state of the page are written there, to be looked at.
"""

import io
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image

from reasonray.evaluation.study.creation import create
from reasonray.evaluation.study.service import make_app
from reasonray.evaluation.study.store import Store
from reasonray.sources.mini.scene import Scene, SceneObject, scaled
from reasonray.sources.mini.world import COLOURS, render

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "helpers"))

from browser import chromium  # noqa: E402
from local_server import serving  # noqa: E402

ITEMS = (
    ("bee", "honey", "milk", "teapot", "green", "Show what it makes instead."),
    ("caterpillar", "butterfly", "tree", "key", "blue", "Let some weeks pass."),
    ("mouse", "cheese", "bee", "candle", "yellow", "Show what it likes to eat in its place."),
)
"""What is there, what should be, what one editor brings in, a neighbour, the background, the
instruction."""

DESK: dict[str, Any] = {"viewport": {"width": 1240, "height": 760}, "device_scale_factor": 1.2}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True,
    "is_mobile": True,
}  # fmt: skip


def picture(left: str, right: str, colour: str) -> PIL.Image.Image:
    """A scene of two objects."""
    rgb = COLOURS[colour]
    red, green, blue = (round(0.9 * value) for value in rgb)
    items = (SceneObject(left, 8, 24, 44), SceneObject(right, 58, 40, 32))
    scene = replace(Scene(colour, rgb, (red, green, blue), None, items), height=88)
    return PIL.Image.fromarray(render(scaled(scene, 6)))


def lay_out(folder: Path) -> Store:
    """The study of the screenshot."""
    lines = []
    for item, target, other, neighbour, colour, instruction in ITEMS:
        pictures = {
            "inputs": (item, neighbour),
            "right": (target, neighbour),
            "other": (other, neighbour),
            "neighbour": (target, "banana"),
            "nothing": (item, neighbour),
        }
        for name, (left, right) in pictures.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            picture(left, right, colour).save(folder / name / f"{item}.png")
        lines.append({"id": item, "instruction": instruction, "kind": "reasoning",
                      "input_image": f"inputs/{item}.png"})  # fmt: skip
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    editors = {name: str(folder / name) for name in ("right", "other", "neighbour", "nothing")}
    options: dict[str, Any] = {"count": 3, "num_workers": 3, "quota": 3, "seed": 1}
    create(folder / "study", str(folder / "items.jsonl"), editors, **options)
    return Store(folder / "study")


def ready(page: Any) -> None:
    """Wait until a question can be answered."""
    page.locator("#candidates .picture:enabled").first.wait_for()
    page.mouse.move(0, 0)


def taken(page: Any) -> PIL.Image.Image:
    """What the page shows."""
    return PIL.Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")


def take_screenshot(path: Path) -> None:
    """The second question, and the first's answer looked at again."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        store = lay_out(Path(folder))
        with serving(make_app(store)) as port:
            page = browser.new_page(**DESK)
            page.goto(f"http://127.0.0.1:{port}/{store.workers()[0].token}/")
            ready(page)
            page.keyboard.press("1")
            page.wait_for_timeout(600)
            page.keyboard.press("ArrowLeft")
            ready(page)
            taken(page).save(path, optimize=True)


def look(folder: Path) -> None:
    """Each state, on a desk and on a phone, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as inside, chromium() as browser:
        store = lay_out(Path(inside))
        with serving(make_app(store)) as port:
            views = {"desk": DESK, "phone": PHONE, "phone-dark": {**PHONE, "color_scheme": "dark"}}
            for worker, (name, options) in zip(store.workers(), views.items(), strict=True):
                page = browser.new_page(**options)
                page.goto(f"http://127.0.0.1:{port}/{worker.token}/")
                ready(page)
                taken(page).save(folder / f"{name}-question.png")
                page.keyboard.press("z")
                page.keyboard.press("ArrowRight")
                page.wait_for_timeout(300)
                page.screenshot(path=folder / f"{name}-large.png")
                page.keyboard.press("Escape")
                for _ in ITEMS:
                    ready(page)
                    page.keyboard.press("1")
                    page.wait_for_timeout(800)
                taken(page).save(folder / f"{name}-done.png")
                page.goto(f"http://127.0.0.1:{port}/none/")
                taken(page).save(folder / f"{name}-unknown.png")
                page.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case [name] if name.endswith(".png"):
            take_screenshot(Path(name))
        case [name]:
            look(Path(name))
        case _:
            sys.exit(__doc__)

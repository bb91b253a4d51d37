"""Finished pictures of made-up editors, items that they have answered, and studies of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from reasonray.evaluation.study.creation import create
from reasonray.evaluation.study.store import Pick, Store

EDITORS = ("ours", "baseline", "rival")


@dataclass(frozen=True)
class Inputs:
    """What `study create` reads.

    Attributes:
        items: a JSONL file.
        editors: name -> folder of pictures.
    """

    items: Path
    editors: Mapping[str, str]


def picture(number: int, size: tuple[int, int] = (48, 32)) -> PIL.Image.Image:
    """One that no other number below 4096 has."""
    gradient = PIL.Image.linear_gradient("L").resize(size)
    digits = (number % 16, number // 16 % 16, number // 256)
    channels = [gradient.point([value * (15 + digit) // 30 for value in range(256)])
                for digit in digits]  # fmt: skip
    return PIL.Image.merge("RGB", channels)


def load(path: Path) -> PIL.Image.Image:
    """A picture as Pillow opens it, its file closed."""
    with PIL.Image.open(path) as image:
        image.load()
        return image


def write_inputs(
    folder: Path,
    num_items: int = 4,
    editors: Sequence[str] = EDITORS,
    kinds: Sequence[str] = ("direct", "reasoning"),
) -> Inputs:
    """So many items of each kind, and a picture of each editor for each."""
    (folder / "inputs").mkdir(parents=True)
    lines = []
    numbers = [(kind, number) for kind in kinds for number in range(num_items)]
    for index, (kind, number) in enumerate(numbers):
        picture(index).save(folder / "inputs" / f"{index}.png")
        item = {
            "id": f"{kind}/{number}",
            "instruction": f"{kind}: show what number {number} makes instead.",
            "kind": kind,
            "input_image": f"inputs/{index}.png",
            "group": "mini",
        }
        lines.append(json.dumps(item))
        for place, editor in enumerate(editors, start=1):
            path = folder / editor / f"{kind}__{number}.png"
            path.parent.mkdir(exist_ok=True)
            picture(1000 * place + index).save(path)
    items = folder / "items.jsonl"
    items.write_text("\n".join(lines) + "\n")
    return Inputs(items, {editor: str(folder / editor) for editor in editors})


def lay_out(
    folder: Path,
    inputs: Inputs,
    *,
    count: int = 100,
    num_workers: int = 2,
    quota: int | None = None,
    seed: int = 0,
) -> list[str]:
    """A study in the folder, and what is said of it."""
    return create(
        folder,
        str(inputs.items),
        inputs.editors,
        count=count,
        num_workers=num_workers,
        quota=quota,
        seed=seed,
    )


def study(folder: Path, num_items: int = 4, **options: int) -> Store:
    """A small one, ready to be answered."""
    lay_out(folder / "study", write_inputs(folder / "in", num_items), **options)
    return Store(folder / "study")


def choose(store: Store, worker: int, task: int, editor: str) -> None:
    """Answer a worker's question by the editor."""
    [files] = [each.candidates for each in store.tasks(worker) if each.task == task]
    [file] = [file for file in files if editor_of(store, file) == editor]
    store.answer(worker, task, file)


def editor_of(store: Store, file: str) -> str:
    """Whose picture it is."""
    with store._opened() as database:  # noqa: SLF001  nothing else may tell
        [name] = database.execute(
            "SELECT name FROM candidates JOIN editors USING (editor) WHERE picture = ?", (file,)
        ).fetchone()
    return str(name)


def by_question(picks: Sequence[Pick]) -> dict[tuple[int, str], str]:
    """(worker, item) -> editor."""
    return {(pick.worker, pick.question.item): pick.editor for pick in picks}

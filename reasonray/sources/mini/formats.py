"""A mini world on disk, in the formats of InstructPix2Pix and V3Det, read by the real readers.

Images are JPEGs, as in the originals. Everything follows from the seeds: scene i of a world is
the scene of `first_seed + i`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reasonray.prompts.direct import direct_instruction
from reasonray.sources.mini.catalogue import CATEGORIES, KINDS, RELATIONS
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    PLAIN,
    Scene,
    Scenery,
    caption,
    pointed_out,
    render,
    replaced,
    sample_scene,
)

LICENSE = "CC BY-SA 4.0 (OpenMoji, https://openmoji.org)"

FAILED_EVERY = 10
"""Each tenth edit has failed: its images hardly differ, as the worst of InstructPix2Pix's."""

_JPEG_QUALITY = 95
_SHARD_PROMPTS = 100


def write_instructpix2pix(
    folder: Path, count: int, first_seed: int = HELD_OUT_SEED, scenery: Scenery = PLAIN
) -> None:
    """Write `count` true before/after pairs and one prompt that has lost its images.

    Args:
        folder: made if it is not there.
        count: pairs, one a prompt.
        first_seed: of the first pair's scene.
        scenery: what the scenes may hold.
    """
    seeds: list[tuple[str, list[str]]] = []
    for index in range(count + 1):
        seed = first_seed + index
        name = f"{index:07d}"
        prompt = folder / f"shard-{index // _SHARD_PROMPTS:02d}" / name
        prompt.mkdir(parents=True, exist_ok=True)
        before, after, edit = _pair(seed, scenery)
        content = {"caption": caption(before), "edit": edit, "output": caption(after)}
        _write_json(prompt / "prompt.json", content)
        if index == count:
            break
        pixels = render(before)
        failed = index % FAILED_EVERY == FAILED_EVERY - 1
        _save(prompt / f"{seed}_0.jpg", pixels)
        _save(prompt / f"{seed}_1.jpg", _grain(pixels, seed) if failed else render(after))
        (prompt / "metadata.jsonl").write_text(json.dumps({"seed": seed}) + "\n")
        seeds.append((name, [str(seed)]))
    _write_json(folder / "seeds.json", seeds)


def write_v3det(
    folder: Path,
    count: int,
    first_seed: int = HELD_OUT_SEED,
    scenery: Scenery = PLAIN,
    num_test: int | None = None,
) -> None:
    """Write `count` train photos with boxes and, from the seeds behind them, a test split.

    Args:
        folder: made if it is not there.
        count: photos of the train split.
        first_seed: of the first photo's scene.
        scenery: what the scenes may hold; plain ones have their categories alone.
        num_test: photos of the test split; None: a fifth of `count`, at least one.
    """
    names = sorted(CATEGORIES if scenery == PLAIN else KINDS)
    category_ids = {name: number for number, name in enumerate(names, start=1)}
    train, annotations = [], []
    for index in range(count):
        scene = sample_scene(first_seed + index, scenery=scenery)
        # V3Det files a photo under one of the categories it shows.
        node = KINDS[scene.categories[0]].hexcode.lower() or scene.categories[0]
        file_name = f"images/{node}/{first_seed + index}.jpg"
        train.append(_image(index + 1, file_name, scene))
        _save(folder / file_name, render(scene))
        for item in scene.objects:
            left, top, right, bottom = scene.visible(item)
            annotations.append(
                {
                    "image_id": index + 1,
                    "category_id": category_ids[item.category],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                }
            )
    test = []
    for index in range(max(1, count // 5) if num_test is None else num_test):
        seed = first_seed + count + index
        file_name = f"test/{seed}.jpg"
        scene = sample_scene(seed, scenery=scenery)
        test.append(_image(index + 1, file_name, scene))
        _save(folder / file_name, render(scene))

    shared: dict[str, Any] = {
        "info": {"description": "A mini world in V3Det's format"},
        "licenses": [{"id": 1, "name": LICENSE, "url": "https://openmoji.org"}],
        "categories": [
            {"id": category_ids[name], "name": name, "cat_info": f"OpenMoji's {name}"}
            for name in names
        ],
    }
    annotated = {**shared, "images": train, "annotations": annotations}
    _write_json(folder / "annotations/v3det_2023_v1_train.json", annotated)
    _write_json(
        folder / "annotations/v3det_2023_v1_test_image_info.json", {**shared, "images": test}
    )


def _pair(seed: int, scenery: Scenery) -> tuple[Scene, Scene, str]:
    """A scene, the scene with one object replaced, half of the time by a related one, and how."""
    rng = np.random.default_rng((seed, 0xED17))
    before = sample_scene(seed, scenery=scenery)
    wordings = [pointed_out(before, index) for index in range(len(before.objects))]
    clear = [index for index, wording in enumerate(wordings) if wording is not None]
    index = clear[int(rng.integers(len(clear)))]
    selected = before.categories[index]
    related = {pairs[selected] for pairs in RELATIONS.values() if selected in pairs}
    # What is already in the picture would stand there twice.
    targets = sorted(related - set(before.categories))
    if not targets or rng.random() < 0.5:
        targets = sorted(set(CATEGORIES) - set(before.categories))
    target = str(rng.choice(targets))
    after = replaced(before, index, target)
    wording, template_seed = wordings[index] or selected, int(rng.integers(1 << 31))
    edit = direct_instruction(wording, target, caption(after), seed=template_seed)
    return before, after, edit


def _grain(pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The same picture with a hardly visible grain, as a diffusion model's second try has."""
    noise = np.random.default_rng((seed, 0x6841)).integers(-3, 4, size=pixels.shape)
    grainy: NDArray[np.uint8] = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return grainy


def _image(number: int, file_name: str, scene: Scene) -> dict[str, Any]:
    size = {"width": scene.width, "height": scene.height}
    return {"id": number, "file_name": file_name, **size, "license": 1}


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG", quality=_JPEG_QUALITY, subsampling=0)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")

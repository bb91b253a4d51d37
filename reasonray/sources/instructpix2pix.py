"""InstructPix2Pix in its original layout, flat or in shard folders.

    seeds.json                        [["0000000", ["1234", ...]], ...]   (optional)
    [shard-00/]0000000/prompt.json    {"caption" or "input", "edit", "output"}
    [shard-00/]0000000/metadata.jsonl {"seed": 1234, ...}                 (optional)
    [shard-00/]0000000/1234_0.jpg     the input;  1234_1.jpg  the edited image

A prompt's seeds are those of seeds.json, else those that its metadata and its images show. One
without any gives one item all the same, so that it is counted as missing.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any

from reasonray.core.errors import UserError
from reasonray.core.record import Part
from reasonray.core.sections import SourceConfig
from reasonray.sources.files import Folder, summary
from reasonray.sources.item import Item

PARTS: tuple[Part, ...] = ("I", "II")

Seeds = Mapping[str, list[str]]

# Folders looked into at once: what a remote store's latency costs is shared among them.
_NUM_THREADS = 16
_CHUNK = 64


def read(source: SourceConfig) -> Iterator[Item]:
    """Every pair, sorted by shard, prompt and seed; ids are `<prompt>/<seed>`.

    Raises:
        UserError: the folder is no InstructPix2Pix, or an annotation file is malformed.
    """
    folder = Folder.at(source.path)
    seeds = _read_seeds(folder)
    num_prompts = 0
    listed_prompts: set[str] = set()
    prompts = _prompts(folder)
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        while chunk := list(islice(prompts, _CHUNK)):
            num_prompts += len(chunk)
            listed_prompts.update(_base(prompt) for prompt, _ in chunk if _base(prompt) in seeds)
            listed = threads.map(lambda prompt: _items(folder, prompt[0], prompt[1], seeds), chunk)
            yield from chain.from_iterable(listed)
    for name, named in seeds.items():
        if name not in listed_prompts:
            num_prompts += 1
            yield from (_item(folder, name, seed, {}) for seed in named)
    if not num_prompts:
        raise UserError(
            f"source {source.path}: expected InstructPix2Pix's folders (0000000/prompt.json with "
            f"<seed>_0.jpg and <seed>_1.jpg, perhaps inside shard-00/), found {summary(folder)}"
        )


def _prompts(folder: Folder, name: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each prompt's folder and the names of its files, lazily."""
    folders, files = folder.list(name)
    if any(_base(file) == "prompt.json" for file in files):
        yield name, [_base(file) for file in files]
        return
    for sub in folders:
        yield from _prompts(folder, sub)


def _items(folder: Folder, prompt: str, files: list[str], seeds: Seeds) -> list[Item]:
    content = folder.read_json(f"{prompt}/prompt.json")
    if not isinstance(content, dict):
        raise UserError(f"{folder.uri(prompt)}/prompt.json: expected an object with edit")
    listed = seeds.get(_base(prompt))
    if listed is None:
        numbers = {file.removesuffix("_0.jpg") for file in files if file.endswith("_0.jpg")}
        if "metadata.jsonl" in files:
            numbers |= _metadata_seeds(folder, f"{prompt}/metadata.jsonl")
        listed = sorted(numbers)
    return [_item(folder, prompt, seed, content) for seed in listed or ["*"]]


def _item(folder: Folder, prompt: str, seed: str, content: Mapping[str, Any]) -> Item:
    return Item(
        source_id=f"{_base(prompt)}/{seed}",
        input_uri=folder.uri(f"{prompt}/{seed}_0.jpg"),
        edited_uri=folder.uri(f"{prompt}/{seed}_1.jpg"),
        input_caption=_text(content.get("caption") or content.get("input")),
        edited_caption=_text(content.get("output")),
        direct_instruction=_text(content.get("edit")),
    )


def _read_seeds(folder: Folder) -> Seeds:
    try:
        content = folder.read_json("seeds.json")
    except FileNotFoundError:
        return {}
    try:
        return {_base(str(name)): [str(seed) for seed in seeds] for name, seeds in content}
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{folder.uri("seeds.json")}: expected [["0000000", ["1234", ...]], ...]'
        ) from error


def _metadata_seeds(folder: Folder, name: str) -> set[str]:
    seeds = set()
    for number, line in folder.read_json_lines(name):
        if not isinstance(line, dict) or "seed" not in line:
            raise UserError(f"{folder.uri(name)}: line {number}: expected an object with seed")
        seeds.add(str(line["seed"]))
    return seeds


def _text(value: object) -> str | None:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text or None


def _base(name: str) -> str:
    return name.rpartition("/")[2]

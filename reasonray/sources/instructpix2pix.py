"""InstructPix2Pix in its original layout, flat or in shard folders.

    seeds.json                        [["0000000", ["1234", ...]], ...]   (optional)
    [shard-00/]0000000/prompt.json    {"caption" or "input", "edit", "output"}
    [shard-00/]0000000/metadata.jsonl {"seed": 1234, ...}                 (optional)
    [shard-00/]0000000/1234_0.jpg     the input;  1234_1.jpg  the edited image

Images may have another picture's extension. A prompt's seeds are those of seeds.json, else those
that its metadata and its images show. One without any gives one item all the same, so that it is
counted as missing.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

from reasonray.core.errors import UserError
from reasonray.core.record import Part
from reasonray.core.sections import SourceConfig
from reasonray.sources.files import Folder, passed_over, summary
from reasonray.sources.item import Item
from reasonray.sources.names import is_picture, slashed

PARTS: tuple[Part, ...] = ("I", "II")

Seeds = Mapping[str, list[str]]
Images = Mapping[tuple[str, str], str]

_KEYS = ("edit", "output", "caption", "input")

# Folders looked into at once: what a remote store's latency costs is shared among them.
_NUM_THREADS = 16
_CHUNK = 64


def read(source: SourceConfig, notices: list[str]) -> Iterator[Item]:
    """Every pair, sorted by shard, prompt and seed; ids are `<prompt>/<seed>`.

    A prompt whose own files are damaged is there with its seeds, and rejected.

    Args:
        source: its path is a folder.
        notices: gets a sentence each, with a count, about folders and archives that are passed
            over.

    Raises:
        UserError: the folder is no InstructPix2Pix, or seeds.json is malformed.
    """
    folder = Folder.at(source.path)
    seeds = _read_seeds(folder)
    num_prompts = 0
    listed_prompts: set[str] = set()
    strange_folders: list[str] = []
    strange_files: list[str] = []
    prompts = _prompts(folder, strange_folders, strange_files)
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        while chunk := list(islice(prompts, _CHUNK)):
            num_prompts += len(chunk)
            listed_prompts.update(_base(prompt) for prompt, _ in chunk if _base(prompt) in seeds)
            listed = threads.map(lambda prompt: _items(folder, prompt[0], prompt[1], seeds), chunk)
            yield from chain.from_iterable(listed)
    for name, named in seeds.items():
        if name not in listed_prompts:
            num_prompts += 1
            yield from (_item(folder, name, seed, {}, {}) for seed in named)
    if not num_prompts:
        raise UserError(
            f"source {source.path}: expected InstructPix2Pix's folders (0000000/prompt.json with "
            f"<seed>_0.jpg and <seed>_1.jpg, perhaps inside shard-00/), found {summary(folder)}"
        )
    notices += passed_over(source.path, strange_files)
    if strange_folders:
        notices.append(
            f"source {source.path}: {len(strange_folders)} folders with images and without "
            f"prompt.json are passed over (the first: {strange_folders[0]})"
        )


def _prompts(
    folder: Folder, strange_folders: list[str], strange_files: list[str], name: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Each prompt's folder and the names of its files, lazily.

    One that has lost its prompt.json shows by its images what it was.
    """
    folders, paths = folder.list(name)
    files = [_base(path) for path in paths]
    if "prompt.json" in files or (name and _images(files)):
        yield name, files
        return
    if any(map(is_picture, files)):
        strange_folders.append(name or ".")
    strange_files += paths
    for sub in folders:
        yield from _prompts(folder, strange_folders, strange_files, sub)


def _items(folder: Folder, prompt: str, files: list[str], seeds: Seeds) -> list[Item]:
    images = _images(files)
    numbers = {seed for seed, side in images if side == "0"}
    content: dict[str, str | None] = {}
    problem = None
    try:
        content = _read_prompt(folder, f"{prompt}/prompt.json")
        if _base(prompt) not in seeds and "metadata.jsonl" in files:
            numbers |= _metadata_seeds(folder, f"{prompt}/metadata.jsonl")
    except FileNotFoundError:
        problem = f"{folder.uri(prompt)}/prompt.json: there is no such file"
    except UserError as error:
        problem = str(error)
    listed = seeds.get(_base(prompt), sorted(numbers))
    return [
        _item(folder, prompt, seed, content, images, problem=problem) for seed in listed or ["*"]
    ]


def _item(
    folder: Folder,
    prompt: str,
    seed: str,
    content: Mapping[str, str | None],
    images: Images,
    problem: str | None = None,
) -> Item:
    before, after = (images.get((seed, side), f"{seed}_{side}.jpg") for side in "01")
    return Item(
        source_id=f"{_base(prompt)}/{seed}",
        input_uri=folder.uri(f"{prompt}/{before}"),
        edited_uri=folder.uri(f"{prompt}/{after}"),
        input_caption=content.get("caption") or content.get("input"),
        edited_caption=content.get("output"),
        direct_instruction=content.get("edit"),
        reason="bad_annotation" if problem else None,
        detail=problem,
    )


def _images(files: list[str]) -> Images:
    """Of each seed and side, 0 before and 1 after the edit, the image: `<seed>_<side>.jpg`.

    Any extension of a picture will do, where there are several the first, .jpg before all.
    """
    images: dict[tuple[str, str], str] = {}
    for file in sorted(files, key=lambda file: (not file.endswith(".jpg"), file)):
        stem = file.rpartition(".")[0]
        seed, _, side = stem.rpartition("_")
        if seed and side in ("0", "1") and is_picture(file):
            images.setdefault((seed, side), file)
    return images


def _read_prompt(folder: Folder, name: str) -> dict[str, str | None]:
    """The texts of a prompt.json, by key.

    Raises:
        UserError: not JSON, no object, none of the keys, or a text is something else.
    """
    content = folder.read_json(name)
    if not isinstance(content, dict) or content.keys().isdisjoint(_KEYS):
        seen = f" (it has {', '.join(content)})" if content and isinstance(content, dict) else ""
        raise UserError(f"{folder.uri(name)}: expected an object with edit, output, input{seen}")
    for key in _KEYS:
        value = content.get(key)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{folder.uri(name)}: {key} is no text: {str(value)[:80]}")
    return {key: " ".join((content.get(key) or "").split()) or None for key in _KEYS}


def _read_seeds(folder: Folder) -> Seeds:
    try:
        content = folder.read_json("seeds.json")
    except FileNotFoundError:
        return {}
    if not isinstance(content, list) or not all(map(_is_entry, content)):
        raise UserError(
            f'{folder.uri("seeds.json")}: expected [["0000000", ["1234", ...]], ...]; without the '
            "file the folders show their seeds"
        )
    seeds: dict[str, list[str]] = {}
    for name, numbers in content:
        seeds.setdefault(_base(slashed(str(name))), []).extend(map(str, numbers))
    return {name: list(dict.fromkeys(numbers)) for name, numbers in seeds.items()}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list)


def _metadata_seeds(folder: Folder, name: str) -> set[str]:
    seeds = set()
    for number, line in folder.read_json_lines(name):
        if not isinstance(line, dict) or "seed" not in line:
            raise UserError(f"{folder.uri(name)}: line {number}: expected an object with seed")
        seeds.add(str(line["seed"]))
    return seeds


def _base(name: str) -> str:
    return name.rpartition("/")[2]

"""Editors under test: whatever makes a picture of a picture and an instruction.

    identity, truth                  bound the scale: nothing is done, or just what should be
    FOLDER, hub id, s3://…           a pipeline of diffusers; its `model_index.json` names the class
    CLASS:FOLDER                     the same, with the class of that name
    http://HOST/v1[#MODEL]           a server with OpenAI's `POST /images/edits`
    pictures:FOLDER                  finished ones, each named after its item (`pictures.file_stem`)
                                     or where the benchmark's own scripts look for it
    python:MODULE:NAME               `NAME()` of a module gives an object with `edit(images,
                                     instructions, seeds)`, lists of one length, and a list of
                                     pictures (`Edits`)

A row that fails is a failure of that row: other rows of its batch are tried without it.
"""

import hashlib
import importlib
import inspect
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import PIL.Image
from PIL.Image import Resampling

from reasonray.core.crops import working_size
from reasonray.core.errors import RowError, UserError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.place import place, reached, versions
from reasonray.core.sections import ModelConfig
from reasonray.evaluation.edits_server import EditsServer
from reasonray.evaluation.items import Benchmark, Item
from reasonray.evaluation.pictures import FinishedPictures, file_stem
from reasonray.evaluation.subjects import NAME, absolute

Images = Sequence[PIL.Image.Image]

BOUNDS = ("identity", "truth")

_EDGE_BYTES = 2**16

_CLASS = re.compile(r"(?P<kind>[A-Z][A-Za-z0-9]*):(?P<path>.+)")


class Edits(Protocol):
    """What an editor under test is to us.

    One that has an attribute `takes_several`, and it is true, is given a list of pictures for each
    edit in place of the first of them; an attribute `notices`, sentences on how it edits, is shown
    beside its figures. A picture whose `info` has `revised_prompt`, as OpenAI's replies have, was
    made by that instruction: an editor that rewrites is reported apart.
    """

    def edit(
        self, images: Sequence[Any], instructions: Sequence[str], seeds: Sequence[int]
    ) -> "Sequence[PIL.Image.Image | RowError]":
        """One picture for each, or why there is none of this one.

        Args:
            images: of each edit the picture before, RGB, of any size; with `takes_several` a list
                of them, at least one.
            instructions: what is to be done.
            seeds: of each edit's randomness, 0..2^63-1.
        """
        ...


@dataclass(frozen=True)
class Spec:
    """An editor as it is named on the command line.

    Attributes:
        name: in tables and files.
        text: what follows the name.
    """

    name: str
    text: str

    @property
    def is_bound(self) -> bool:
        """It makes nothing of its own: a bound of the scale."""
        return self.text in BOUNDS

    @property
    def has_model(self) -> bool:
        """It makes pictures, rather than take those that there are."""
        return not self.is_bound and not self.text.startswith("pictures:")


def parse(text: str) -> Spec:
    """`NAME=SPEC`, or one of the specs that need no name.

    Raises:
        UserError: not of that form.
    """
    name, separator, spec = text.partition("=")
    if not separator:
        name = spec = text
    if not NAME.fullmatch(name) or not spec:
        raise UserError(
            f"editor {text}: expected NAME=SPEC, the name of letters, digits, '.', '_', '+' and '-'"
        )
    if spec in BOUNDS:
        return Spec(name, spec)
    # The processes that load it are in another folder.
    kind, path = "", spec
    if spec.startswith("pictures:") or _CLASS.fullmatch(spec):
        kind, _, path = spec.partition(":")
    return Spec(name, f"{kind}:{absolute(path)}" if kind else absolute(path))


def weights_version(spec: Spec) -> str | None:
    """16 hexadecimal digits of what lies in a pipeline's folder or on its store, Markdown aside.

    Of a file here its name, size, beginning and end count, which no two trainings have alike; it
    may be copied. None: neither folder nor store, as a hub id, a server or a module.

    Raises:
        UserError: a file cannot be read.
        RunError: a store fails.
    """
    kind = spec.text.partition(":")[0]
    if not spec.has_model or kind in ("python", "http", "https"):
        return None
    named = _CLASS.fullmatch(spec.text)
    folder = place(named["path"] if named else spec.text, f"editor {spec.name}")
    if isinstance(folder, Path) and not folder.is_dir():
        return None
    try:
        with reached(folder, f"editor {spec.name}"):
            content = [
                (name, size, _edges(folder / name) if isinstance(folder, Path) else change)
                for name, size, change in versions(folder)
                if not name.endswith(".md")
            ]
    except OSError as error:
        raise UserError(f"editor {spec.name}: {folder}: cannot be read ({error})") from error
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _edges(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(_EDGE_BYTES)
        file.seek(max(0, size - _EDGE_BYTES))
        return hashlib.sha256(beginning + file.read()).hexdigest()


def load(spec: Spec, config: EvaluationConfig) -> "Edits | ByItem":
    """The editor, ready to edit in this process.

    Raises:
        UserError: there is none like that.
    """
    kind, _, rest = spec.text.partition(":")
    arguments = config.arguments_of(spec.name)
    match kind:
        case "identity" if not rest:
            return ByItem(lambda _, item: item.before())
        case "truth" if not rest:
            return ByItem(lambda _, item: truth_of(item))
        case "pictures":
            return ByItem(_Finished(spec, rest))
        case "python":
            return _from_module(spec, rest)
        case "http" | "https":
            return EditsServer(spec.name, spec.text, arguments)
    return Pipeline(spec, config, arguments)


@dataclass(frozen=True)
class ByItem:
    """An editor that looks at the item and makes nothing of its own.

    Attributes:
        picture: of an item of a benchmark.
    """

    picture: Callable[[Benchmark, Item], PIL.Image.Image]


def truth_of(item: Item) -> PIL.Image.Image:
    """What should come of an item.

    Raises:
        RowError: there is none, or it cannot be read.
    """
    if not item.references:
        raise RowError("no_truth", f"item {item.id}: this benchmark has no truth for it")
    return item.references[0].open()


class _Finished:
    """Pictures in a folder; `ByItem.picture`."""

    def __init__(self, spec: Spec, folder: str) -> None:
        self._pictures = FinishedPictures(place(folder, spec.name), f"editor {spec.name}")

    def __call__(self, benchmark: Benchmark, item: Item) -> PIL.Image.Image:
        own = benchmark.output_name(item)
        picture = self._pictures.find(item.id, own)
        if picture is None:
            names = dict.fromkeys((f"{file_stem(item.id)}.*", own))
            raise RowError("no_picture", f"item {item.id}: no picture {' or '.join(names)}")
        return picture.open()


def _from_module(spec: Spec, text: str) -> Edits:
    module, _, name = text.rpartition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"editor {spec.name}: python:{text}: expected python:MODULE:NAME of something that "
            f"can be imported ({error})"
        ) from error
    editor = make()
    if not callable(getattr(editor, "edit", None)):
        raise UserError(
            f"editor {spec.name}: {text}() has no method edit(images, instructions, seeds)"
        )
    return cast(Edits, editor)


class Pipeline:
    """A pipeline of diffusers that takes `image` and `prompt` (ours: `instruction`).

    Args:
        spec: FOLDER, a hub id, a URI of a store, or CLASS: before one of these.
        config: its `side`, `dtype` and `batch_size` count.
        arguments: of the call.

    Raises:
        UserError: there is no such pipeline, or its call does not take these arguments.
    """

    def __init__(self, spec: Spec, config: EvaluationConfig, arguments: dict[str, Any]) -> None:
        self._config = config
        self._pipe = _pipeline(spec, config)
        names = inspect.signature(type(self._pipe).__call__).parameters
        self._text = "prompt" if "prompt" in names else "instruction"
        if not {"image", self._text} <= names.keys():
            raise UserError(
                f"editor {spec.name}: {type(self._pipe).__name__} takes no image and prompt: it "
                "is no editor"
            )
        own = config.arguments.get(spec.name, {})
        if unknown := own.keys() - names.keys():
            raise UserError(
                f"evaluation.arguments.{spec.name}.{min(unknown)}: "
                f"{type(self._pipe).__name__} takes no such argument"
            )
        self._arguments = {name: value for name, value in arguments.items() if name in names}
        self._takes_generator = "generator" in names
        self._factor = getattr(self._pipe, "vae_scale_factor", 8)

    def edit(
        self, images: Images, instructions: Sequence[str], seeds: Sequence[int]
    ) -> list[PIL.Image.Image]:
        """See `Edits`; pictures of one size go through the model together."""
        sizes = [working_size(image.size, self._config.side, self._factor) for image in images]
        edited: list[PIL.Image.Image | None] = [None] * len(images)
        for size in dict.fromkeys(sizes):
            alike = [number for number, other in enumerate(sizes) if other == size]
            step = self._config.batch_size
            for start in range(0, len(alike), step):
                batch = alike[start : start + step]
                results = self._call(
                    [images[i].resize(size, Resampling.LANCZOS) for i in batch],
                    [instructions[i] for i in batch],
                    [seeds[i] for i in batch],
                )
                for i, result in zip(batch, results, strict=True):
                    edited[i] = result.resize(images[i].size, Resampling.LANCZOS)
        return cast(list[PIL.Image.Image], edited)

    def _call(
        self, images: list[PIL.Image.Image], instructions: list[str], seeds: list[int]
    ) -> list[PIL.Image.Image]:
        import torch

        arguments = dict(self._arguments)
        if self._takes_generator:
            arguments["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
        result = self._pipe(image=images, **{self._text: instructions}, **arguments)
        return list(result.images)


def _pipeline(spec: Spec, config: EvaluationConfig) -> Any:
    import diffusers

    from reasonray.editor.pipeline import ReasonEditPipeline
    from reasonray.models import weights

    path, kind = spec.text, None
    if named := _CLASS.fullmatch(path):
        kind, path = named["kind"], named["path"]
    model = ModelConfig(name=path, dtype=config.dtype)
    path = weights.resolve(model)
    own: dict[str, Any] = {"ReasonEditPipeline": ReasonEditPipeline}
    try:
        if kind is None:
            kind = diffusers.DiffusionPipeline.load_config(path)["_class_name"]
        make = own.get(kind) or getattr(diffusers, kind, None)
        if make is None:
            raise UserError(f"editor {spec.name}: diffusers has no class {kind}")
        with warnings.catch_warnings():
            # Of its name, which 0.42 changes and 0.38 does not know yet.
            warnings.simplefilter("ignore", FutureWarning)
            pipe = make.from_pretrained(path, torch_dtype=weights.dtype(model))
    except (OSError, ValueError) as error:
        raise UserError(
            f"editor {spec.name}: {path}: no pipeline of diffusers could be loaded "
            f"({' '.join(str(error).split())[:300]}); expected a folder with model_index.json, a "
            "hub id, a URL, identity, truth, pictures:FOLDER or python:MODULE:NAME"
        ) from error
    pipe = pipe.to(weights.device(model))
    pipe.set_progress_bar_config(disable=True)
    return pipe

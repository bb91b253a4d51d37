"""Editors under test: whatever makes a picture of a picture and an instruction.

    identity, truth                  bound the scale: nothing is done, or just what should be
    FOLDER, hub id, s3://…           a pipeline of diffusers; its `model_index.json` names the class
    CLASS:FOLDER                     the same, with the class of that name
    http://HOST/v1[#MODEL]           a server with OpenAI's `POST /images/edits`
    pictures:FOLDER                  finished ones, each named after its item (`pictures.file_stem`)
    python:MODULE:NAME               `NAME()` of a module gives an object with `edit(images,
                                     instructions, seeds)`, lists of one length, and a list of
                                     pictures

A row that fails is a failure of that row: other rows of its batch are tried without it.
"""

import base64
import importlib
import inspect
import os
import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, cast

import PIL.Image
from PIL.Image import Resampling

from reasonray.core.crops import working_size
from reasonray.core.errors import RowError, RunError, UserError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.images import encode_png
from reasonray.core.images import read as images_of
from reasonray.core.place import place
from reasonray.core.sections import ModelConfig
from reasonray.evaluation.items import Item
from reasonray.evaluation.pictures import FinishedPictures, file_stem

Images = Sequence[PIL.Image.Image]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_CLASS = re.compile(r"(?P<kind>[A-Z][A-Za-z0-9]*):(?P<path>.+)")


class Edits(Protocol):
    """What an editor under test is to us."""

    def edit(
        self, images: Images, instructions: Sequence[str], seeds: Sequence[int]
    ) -> "Sequence[PIL.Image.Image | RowError]":
        """One picture for each, or why there is none of this one.

        Args:
            images: RGB, of any size.
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
        return self.text in ("identity", "truth")


def parse(text: str) -> Spec:
    """`NAME=SPEC`, or one of the specs that need no name.

    Raises:
        UserError: not of that form.
    """
    name, separator, spec = text.partition("=")
    if not separator:
        name = spec = text
    if not _NAME.fullmatch(name) or not spec:
        raise UserError(
            f"editor {text}: expected NAME=SPEC, the name of letters, digits, '.', '_', '+' and '-'"
        )
    return Spec(name, spec)


def load(spec: Spec, config: EvaluationConfig) -> "Edits | ByItem":
    """The editor, ready to edit in this process.

    Raises:
        UserError: there is none like that.
    """
    kind, _, rest = spec.text.partition(":")
    arguments = config.arguments_of(spec.name)
    match kind:
        case "identity" if not rest:
            return ByItem(_unedited)
        case "truth" if not rest:
            return ByItem(truth_of)
        case "pictures":
            return ByItem(_Finished(spec, rest))
        case "python":
            return _from_module(spec, rest)
        case "http" | "https":
            return Server(spec, arguments)
    return Pipeline(spec, config, arguments)


@dataclass(frozen=True)
class ByItem:
    """An editor that looks at the item and makes nothing of its own.

    Attributes:
        picture: of an item.
    """

    picture: Callable[[Item], PIL.Image.Image]


def _unedited(item: Item) -> PIL.Image.Image:
    return item.pictures[0].open()


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

    def __call__(self, item: Item) -> PIL.Image.Image:
        picture = self._pictures.find(item.id)
        if picture is None:
            raise RowError("no_picture", f"item {item.id}: no picture {file_stem(item.id)}.*")
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


class Server:
    """A server with OpenAI's `POST /images/edits`: one request for each edit.

    The key is that of `OPENAI_API_KEY`. A refusal is a failure of its row; a server that is away,
    has no such model or takes no key stops the evaluation, which goes on later.

    Args:
        spec: http://HOST/v1, with #MODEL behind it.
        arguments: of each request, beside what OpenAI's client sends by itself.
    """

    def __init__(self, spec: Spec, arguments: dict[str, Any]) -> None:
        import openai

        url, _, self._model = spec.text.partition("#")
        self._name, self._arguments = spec.name, arguments
        key = os.environ.get("OPENAI_API_KEY", "none")
        # Its own retries, with backoff and Retry-After.
        self._client = openai.OpenAI(base_url=url, api_key=key, max_retries=8)

    def edit(
        self, images: Images, instructions: Sequence[str], seeds: Sequence[int]
    ) -> list[PIL.Image.Image | RowError]:
        """See `Edits`; all at once."""
        with ThreadPoolExecutor(len(images)) as threads:
            return list(threads.map(self._one, images, instructions, seeds))

    def _one(
        self, image: PIL.Image.Image, instruction: str, seed: int
    ) -> PIL.Image.Image | RowError:
        import openai

        # OpenAI's own names and those of other servers, which its client does not know.
        body = {"seed": seed % 2**31, **self._arguments}
        if self._model:
            body["model"] = self._model
        try:
            reply = self._client.images.edit(
                image=("image.png", encode_png(image)["bytes"], "image/png"),
                prompt=instruction,
                extra_body=body,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return RowError("refused", _message(error))
        except openai.OpenAIError as error:
            raise RunError(f"editor {self._name}: {_message(error)}") from error
        text = reply.data[0].b64_json if reply.data else None
        if not text:
            return RowError("no_picture", "the reply holds no b64_json")
        try:
            return images_of({"bytes": base64.b64decode(text), "path": "the reply"}).pixels
        except RowError as error:
            return error


def _message(error: Exception) -> str:
    return " ".join(str(error).split())[:500]

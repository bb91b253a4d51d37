"""Where a model's weights are, on what they run, and the one way to load them."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizer,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.utils.hub import cached_file, extract_commit_hash

from reasonray.core.copies import local
from reasonray.core.errors import UserError
from reasonray.core.place import place
from reasonray.core.sections import ModelConfig
from reasonray.core.uris import is_local

PACKAGE_PREFIX = "package:"


def resolve(config: ModelConfig) -> str:
    """What `from_pretrained` is given: a hub id or a folder.

    `package:a/b/c` is the folder b/c of the installed package a, wherever this machine has it,
    so that a recipe holds no machine's paths. Of a URI it is this machine's copy of what is there.

    Raises:
        UserError: the package or its folder is not there, or the URI leads to nothing.
        RunError: a store fails, or there is no space left for a copy.
    """
    if not is_local(config.name):
        return str(local(place(config.name, "model")))
    if not config.name.startswith(PACKAGE_PREFIX):
        return config.name
    package, _, folder = config.name.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(package)
    root = (
        Path(spec.submodule_search_locations[0])
        if spec and spec.submodule_search_locations
        else None
    )
    if root is None or not (root / folder).is_dir():
        raise UserError(
            f"model {config.name}: no folder {folder} in an installed package {package}"
        )
    return str(root / folder)


def revision(config: ModelConfig, file: str = "config.json") -> str | None:
    """The configured revision, else the hub's commit that was loaded; None for a folder.

    Args:
        config: of a model that has been loaded.
        file: any file of it; the hub's cache keeps it under its commit.
    """
    if config.revision:
        return config.revision
    try:
        path: str | None = cached_file(resolve(config), file, local_files_only=True)
    except OSError:
        return None  # it came from elsewhere
    return extract_commit_hash(path, None)


def device(config: ModelConfig) -> torch.device:
    """The configured device; auto is the GPU this process may use, else the CPU."""
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself, rather than emulate it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Nothing public tells of a CPU (checked with torch 2.13).
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def dtype(config: ModelConfig) -> torch.dtype:
    """The configured dtype; auto is float16 on a GPU, float32 on a CPU."""
    if config.dtype != "auto":
        return {
            "float32": torch.float32,
            "float16": torch.float16,
            "bfloat16": torch.bfloat16,
        }[config.dtype]
    return torch.float16 if device(config).type == "cuda" else torch.float32


def load_model(kind: Any, config: ModelConfig, subfolder: str | None = None, **options: Any) -> Any:
    """A model as its section says: in its dtype, on its device, for inference.

    Args:
        kind: the class, of transformers or diffusers, or an auto class of transformers.
        config: where it is, which revision, and on what it runs.
        subfolder: of a diffusers folder.
        options: further ones of `from_pretrained`.

    Raises:
        UserError: as `load_part`.
    """
    name = "torch_dtype" if _is_diffusers_model(kind) else "dtype"
    part = load_part(kind, config, subfolder, **{name: dtype(config)}, **options)
    return part.eval().to(device(config))


def load_part(kind: Any, model: ModelConfig, subfolder: str | None = None, **options: Any) -> Any:
    """A model, scheduler, tokenizer or processor by its class's `from_pretrained`.

    Args:
        kind: the class.
        model: where it is, and which revision.
        subfolder: of a diffusers folder.
        options: further ones of `from_pretrained`.

    Raises:
        UserError: it is not there, cannot be read, or is of another class.
    """
    with _loading(kind, model, subfolder) as (source, where):
        _check_class(kind, source, where)
        part = kind.from_pretrained(source, **where, **options)
        _check_vocabulary(part)
    return part


def load_config(kind: Any, model: ModelConfig, subfolder: str) -> dict[str, Any]:
    """What a part's config says, without its weights.

    Args:
        kind: diffusers' class, or one that has its config's interface.
        model: where it is, and which revision.
        subfolder: of a diffusers folder.

    Raises:
        UserError: it is not there, cannot be read, or is of another class of model.
    """
    with _loading(kind, model, subfolder) as (source, where):
        _check_class(kind, source, where)
        content: dict[str, Any] = kind.load_config(source, **where)
    return content


@contextmanager
def _loading(
    kind: Any, model: ModelConfig, subfolder: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Source and place for the libraries, whose complaints become one message."""
    where = {"revision": model.revision, **({"subfolder": subfolder} if subfolder else {})}
    try:
        yield resolve(model), where
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        what = f"{model.name}/{subfolder}" if subfolder else model.name
        # An auto class lists the hundreds that it would have taken.
        reason = " ".join(str(error).partition("\nModel type should be one of ")[0].split())
        raise UserError(f"model {what}: no {kind.__name__} can be loaded: {reason}") from error


def _check_class(kind: Any, source: str, where: dict[str, Any]) -> None:
    # The libraries load another class's folder with a warning: weights that fit no name are drawn
    # at random, and what the config leaves open is that of a model of full size.
    if _is_diffusers_model(kind):
        stated, expected = kind.load_config(source, **where).get("_class_name"), kind.__name__
    elif issubclass(kind, PreTrainedModel):
        stated = PreTrainedConfig.get_config_dict(source, **where)[0].get("model_type")
        expected = kind.config_class.model_type
        if stated is None:
            raise ValueError("there is no config.json that says what model it is")
    else:
        return
    if stated != expected:
        raise ValueError(f"its config.json is of {stated}, not of {expected}")


def _is_diffusers_model(kind: Any) -> bool:
    # Not by its base class: whoever needs transformers alone would wait for diffusers' import.
    return getattr(kind, "config_name", None) == "config.json"


def _check_vocabulary(part: Any) -> None:
    # transformers makes a tokenizer without its files, too; a processor adds an image's token.
    tokenizer = part.tokenizer if isinstance(part, ProcessorMixin) else part
    kinds = (PreTrainedTokenizer, PreTrainedTokenizerFast)
    if isinstance(tokenizer, kinds) and len(tokenizer) <= len(tokenizer.added_tokens_decoder):
        raise ValueError("there is no vocabulary")

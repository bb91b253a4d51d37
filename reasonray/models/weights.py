"""Where a model's weights are, and on what they run: shared by all loaders."""

import importlib.util
from pathlib import Path

import torch
from transformers.utils.hub import cached_file, extract_commit_hash

from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig

PACKAGE_PREFIX = "package:"


def resolve(config: ModelConfig) -> str:
    """What `from_pretrained` is given: a hub id or a folder.

    `package:a/b/c` is the folder b/c of the installed package a, wherever this machine has it,
    so that a recipe holds no machine's paths.

    Raises:
        UserError: the package or its folder is not there.
    """
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


def dtype(config: ModelConfig) -> torch.dtype:
    """The configured dtype; auto is float16 on a GPU, float32 on a CPU."""
    if config.dtype != "auto":
        return {
            "float32": torch.float32,
            "float16": torch.float16,
            "bfloat16": torch.bfloat16,
        }[config.dtype]
    return torch.float16 if device(config).type == "cuda" else torch.float32

"""A tiny editor to train and what its frozen models make of twenty records; for reading only."""

from pathlib import Path

import pytest
import tiny_base
import torch

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor import features


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("editor")


@pytest.fixture(scope="session")
def config(place: Path) -> EditorConfig:
    torch.set_num_threads(1)
    return EditorConfig.model_validate(tiny_base.editor_settings(place))


@pytest.fixture(scope="session")
def data(place: Path) -> Path:
    return tiny_base.data(place / "data", [tiny_base.sample(number) for number in range(20)])


@pytest.fixture(scope="session")
def samples(config: EditorConfig, data: Path, place: Path) -> features.Features:
    return tiny_base.cached(config, data, place / "features")

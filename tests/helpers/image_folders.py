"""Folders of pictures for their reader, and what it makes of them."""

import json
from pathlib import Path

from reasonray.core.sections import SourceConfig
from reasonray.sources.folder import read
from reasonray.sources.item import Item


def items(folder: Path | str) -> list[Item]:
    """All inputs, read without notices."""
    return list(read(SourceConfig(format="folder", path=str(folder)), []))


def touch(folder: Path, *names: str) -> None:
    """Files that are pictures by their names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"image")


def captions(folder: Path, *lines: object) -> None:
    """A `metadata.jsonl`; text is written as it is."""
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "metadata.jsonl").write_text(text)

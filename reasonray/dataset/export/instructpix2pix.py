"""InstructPix2Pix's own layout, as `edit_dataset.py` of timothybrooks/instruct-pix2pix reads it.

    seeds.json                          [["shard-00/0000000", ["0"]], ...]
    shard-00/0000000/prompt.json        {"caption", "edit", "output"}
    shard-00/0000000/metadata.jsonl     {"seed", "id", "instruction"}
    shard-00/0000000/0_0.jpg            the input;  0_1.jpg  the edited image

A prompt folder is one row: a sample with one instruction. Where the original has the seed of a
pair stands the number of the variation, as in the sample's id.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from reasonray.core import images
from reasonray.core.record import Image, Row

SHARD_PROMPTS = 10_000
"""Prompt folders in a shard folder: as many as file systems list quickly."""


class InstructPix2Pix:
    """Writes prompt folders as samples come, `seeds.json` at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seeds: list[tuple[str, str, str]] = []

    def write(self, sample: Row, instructions: Mapping[str, str]) -> None:
        """Add a prompt folder for each instruction."""
        before, after = (
            images.plain(cast(Image, image), jpeg=True)
            for image in (sample["input_image"], sample["edited_image"])
        )
        seed = sample["id"].rpartition("/")[2]
        for kind, instruction in instructions.items():
            number = len(self._seeds)
            name = f"shard-{number // SHARD_PROMPTS:02d}/{number:07d}"
            prompt = self._folder / name
            prompt.mkdir(parents=True)
            content = {
                "caption": sample["input_caption"],
                "edit": instruction,
                "output": sample["edited_caption"],
            }
            _write_json(prompt / "prompt.json", content)
            known = {"seed": int(seed), "id": sample["id"], "instruction": kind}
            _write_json(prompt / "metadata.jsonl", known)
            (prompt / f"{seed}_0.jpg").write_bytes(before)
            (prompt / f"{seed}_1.jpg").write_bytes(after)
            self._seeds.append((_place(sample), name, seed))

    def close(self) -> None:
        """Write `seeds.json`.

        EditDataset's splits are stretches of it, the last for validation and test: it stands in
        an order that mixes the parts and keeps all rows of an input together.
        """
        seeds = [(name, [seed]) for _, name, seed in sorted(self._seeds)]
        _write_json(self._folder / "seeds.json", seeds)


def _place(sample: Row) -> str:
    """The same for all rows of an input, whatever their part; else as good as random."""
    key = f"{sample['source']}/{sample['source_id']}".encode()
    return hashlib.blake2b(key, digest_size=8).hexdigest()


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")

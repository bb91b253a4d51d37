"""The frozen part of a training step, computed once: both pictures' latents, both texts' states.

A Ray Data job turns each row group of a dataset into one Arrow file, by actors that hold the frozen
models; a file is there whole or not at all, so that a stopped job goes on. Training maps the files
into memory and reads any sample at any time. The cache's folder is named by the hash of all that
its content follows from, so that one of another dataset, model or preprocessing is never taken;
of models on the hub it notes the commits, which the training then loads, too.

Shapes: C latent channels, H x W cells, T tokens, D width of the frozen model's states.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.errors import UserError
from reasonray.core.sections import EditorConfig
from reasonray.core.writing import replaced, write_file
from reasonray.dataset.manifest import MANIFEST
from reasonray.editor.frozen import COLUMNS, Array, Frozen, Sample
from reasonray.models import weights

PREPROCESSING = 1
"""Raised when what is computed from the same picture and text changes."""

INFO = "features.json"


class Features:
    """A finished cache, read in any order.

    Args:
        folder: that `finish` has described.

    Raises:
        UserError: it is not finished, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        content = _info(folder)
        self.latent_shape: tuple[int, ...] = tuple(content["latent_shape"])
        self.width: int = content["width"]
        self.null = np.array(content["null"], np.float16)
        try:
            tables = [
                pa.ipc.open_file(pa.memory_map(str(folder / name))).read_all()
                for name in content["files"]
            ]
        except (OSError, pa.ArrowInvalid) as error:
            raise _damaged(folder, error) from error
        self._table = pa.concat_tables(tables)
        self.ids: list[str] = self._table["id"].to_pylist()

    def take(self, indices: Sequence[int]) -> list[Sample]:
        """The samples at some positions; their arrays are views of the files.

        Raises:
            UserError: features have not the shape of the others.
        """
        return [self._sample(index) for index in indices]

    def _sample(self, index: int) -> Sample:
        taught = self._table["taught"][index].as_buffer()
        return Sample(
            self.ids[index],
            self._array("source", index, self.latent_shape),
            self._array("target", index, self.latent_shape),
            self._array("reasoning", index, (-1, self.width)),
            self._array("direct", index, (-1, self.width)),
            None if taught is None else np.frombuffer(taught, np.float16).reshape(
                self._table["taught_tokens"][index].as_py(), -1
            ),
        )  # fmt: skip

    def _array(self, name: str, index: int, shape: tuple[int, ...]) -> Array:
        values = np.frombuffer(self._table[name][index].as_buffer(), np.float16)
        try:
            return values.reshape(shape)
        except ValueError as error:
            raise UserError(
                f"features of {self.ids[index]}: {name} has {values.size} values, which do not "
                f"make {shape}; delete the cache's folder and run again"
            ) from error


@dataclass(frozen=True)
class Chunk:
    """One row group of a dataset's shard, and the file that its features go to."""

    shard: str
    row_group: int
    parts: tuple[str, ...]
    file: str


def chunks(data: Path, parts: Sequence[str], folder: Path) -> list[Chunk]:
    """All row groups of a dataset, with the files that they get in a cache's folder."""
    return [
        Chunk(str(shard), group, tuple(parts), str(folder / f"{shard.stem}-{group:05d}.arrow"))
        for shard in sorted((data / "accepted").glob("*.parquet"))
        for group in range(pq.ParquetFile(shard).num_row_groups)
    ]


def write_chunk(chunk: Chunk, frozen: Frozen, batch_size: int) -> int:
    """Compute and write a chunk's features, whole or not at all.

    Returns:
        Samples written.

    Raises:
        UserError: a record's picture cannot be read.
    """
    table = pq.ParquetFile(chunk.shard).read_row_group(chunk.row_group, columns=list(COLUMNS))
    rows = [row for row in table.to_pylist() if row["part"] in chunk.parts]
    samples = [
        sample
        for start in range(0, len(rows), batch_size)
        for sample in frozen.samples(rows[start : start + batch_size])
    ]
    schema = pa.schema(
        [("id", pa.string()), ("source", pa.large_binary()), ("target", pa.large_binary()),
         ("reasoning", pa.large_binary()), ("direct", pa.large_binary()),
         ("taught", pa.large_binary()), ("taught_tokens", pa.int32())]
    )  # fmt: skip
    with (
        replaced(Path(chunk.file)) as temporary,
        pa.ipc.new_file(str(temporary), schema) as sink,
    ):
        for sample in samples:
            values = {
                name: [value.tobytes() if isinstance(value, np.ndarray) else value]
                for name, value in asdict(sample).items()
            }
            count = None if sample.taught is None else len(sample.taught)
            sink.write_table(pa.table({**values, "taught_tokens": [count]}, schema=schema))
    return len(samples)


def finish(folder: Path, files: Sequence[str], frozen: Frozen) -> None:
    """Write the cache's description, after which it counts as finished."""
    null = frozen.null()
    content = {
        "files": [Path(name).name for name in files],
        "latent_shape": frozen.latent_shape,
        "width": null.shape[1],
        "null": null.tolist(),
        "revisions": frozen.revisions(),
    }
    write_file(folder / INFO, json.dumps(content))


def pinned(config: EditorConfig, folder: Path) -> EditorConfig:
    """The settings with the hub's commits that a finished cache was computed with.

    A name without a revision means another model as soon as somebody uploads one.

    Raises:
        UserError: the cache is not finished, or damaged.
    """
    revisions = _info(folder)["revisions"]
    models = {
        name: getattr(config, name).model_copy(update={"revision": commit})
        for name, commit in revisions.items()
        if commit is not None
    }
    return config.model_copy(update=models)


def fingerprint(data: Path) -> str:
    """16 hexadecimal digits of a dataset: its manifest, its shards' names, sizes and times."""
    content = [(data / MANIFEST).read_text(), _files(data / "accepted")]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def key(config: EditorConfig, data: Path, parts: Sequence[str]) -> str:
    """16 hexadecimal digits of everything that the features follow from.

    A model in a folder counts with its files' names, sizes and times; one of the hub with its name
    and revision (see `pinned`).

    Raises:
        UserError: a `package:` model is not there.
    """
    settings = config.model_dump(
        mode="json",
        include={"base", "vae", "condition", "mllm", "tokens", "image_size", "flip"},
    )
    files = {}
    for name in ("base", "vae", "mllm"):
        if settings[name]:
            settings[name].pop("device")
            files[name] = _files(Path(weights.resolve(getattr(config, name))))
    # The base's UNet has no part in them.
    files["base"] = [file for file in files["base"] if file[0].startswith(("vae/", "text_", "tok"))]
    content = [
        PREPROCESSING, settings, files, bool(config.alignment_steps), list(parts),
        str(data.resolve()), fingerprint(data),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _info(folder: Path) -> dict[str, Any]:
    path = folder / INFO
    if not path.exists():
        raise UserError(f"{folder}: no finished features (no {INFO})")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise _damaged(folder, error) from error
    return content


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"features {folder}: damaged ({error}); delete this folder and run again")


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of all files in a folder; none if it is not there."""
    return [
        (str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]

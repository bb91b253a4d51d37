"""The frozen part of a training step, computed once: both pictures' latents, both texts' states.

A row is one variant of a record; the states up to the picture's end stand in it once for both
instructions.

A Ray Data job turns each row group of a dataset into one Arrow file, by actors that hold the frozen
models; a file is there whole or not at all, so that a stopped job goes on. Training maps the files,
or its machine's copy of those on a store, into memory and reads any sample at any time. The cache's
folder is named by the hash of all that
its content follows from, so that one of another dataset, model or preprocessing is never taken;
of models on the hub it notes the commits, which the training then loads, too. A cache of several
parts serves trainings on some of them.

Shapes: C latent channels, H x W cells, T tokens, D width of the frozen model's states.
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reasonray.core.copies import local
from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.core.place import Place, arrow, parquet, place, reached, versions
from reasonray.core.record import sample_part
from reasonray.core.sections import ModelConfig
from reasonray.core.uris import is_local
from reasonray.core.writing import replaced, write_file
from reasonray.dataset.manifest import MANIFEST, complete_manifest, selected
from reasonray.dataset.reading import shards
from reasonray.editor.batches import Variant, ahead
from reasonray.editor.frozen import Array, Frozen, Sample
from reasonray.editor.pairs import COLUMNS, Pair, origin, pairs, size_kept
from reasonray.models import weights

PREPROCESSING = 4
"""Raised when what is computed from the same picture and text changes."""

INFO = "features.json"
LEFT_OUT = b"left_out"
"""In a file's metadata: ids of the row group's records whose edit no crop keeps."""

SCHEMA = pa.schema(
    [("id", pa.string()), ("origin", pa.string()), ("source", pa.large_binary()),
     ("target", pa.large_binary()), ("picture", pa.large_binary()),
     ("latent_shape", pa.list_(pa.int32(), 3)),
     ("reasoning", pa.large_binary()), ("direct", pa.large_binary()),
     ("taught", pa.large_binary()), ("taught_tokens", pa.int32())]
)  # fmt: skip


class Features:
    """A finished cache, read in any order.

    Args:
        folder: that `finish` has described.
        parts: whose records are taken, in their order; None: all that there are.

    Attributes:
        ids, origins, groups, shapes: of each record: its id, what it was made of
            (`pairs.origin`), the row group that it stands in, the shape CHW of its latents.
        left_out: ids of the records whose edit no crop keeps.

    Raises:
        UserError: it is not finished, or damaged.
    """

    def __init__(self, folder: Place, parts: Sequence[str] | None = None) -> None:
        content = _info(folder)
        self.width: int = content["width"]
        self.null = np.array(content["null"], np.float16)

        def is_taken(name: str) -> bool:
            return parts is None or sample_part(name) in parts

        self.left_out: list[str] = [name for name in content["left_out"] if is_taken(name)]
        self._num_crops: int = content["num_crops"]
        here = local(folder, "features", content["files"])
        try:
            tables = [
                pa.ipc.open_file(pa.memory_map(str(here / name))).read_all()
                for name in content["files"]
            ]
        except (OSError, pa.ArrowInvalid) as error:
            raise _damaged(folder, error) from error
        self._table = pa.concat_tables(tables)
        records = self._table.select(["id", "origin", "latent_shape"])[:: self._num_crops]
        groups = [
            number for number, table in enumerate(tables)
            for _ in range(table.num_rows // self._num_crops)
        ]  # fmt: skip
        # Views of what is mapped stay views: records are taken by their places among all.
        names = records["id"].to_pylist()
        self._places = [place for place, name in enumerate(names) if is_taken(name)]
        self.ids: list[str] = [names[place] for place in self._places]
        self.groups = [groups[place] for place in self._places]
        taken = records.select(["origin", "latent_shape"]).take(pa.array(self._places, pa.int64()))
        self.origins: list[str] = taken["origin"].to_pylist()
        self.shapes: list[tuple[int, ...]] = [
            tuple(shape) for shape in taken["latent_shape"].to_pylist()
        ]

    def take(self, variants: Sequence[Variant]) -> list[Sample]:
        """Some records' variants; their arrays are views of the files.

        Raises:
            UserError: features have not the shape of the others.
        """
        return [self._sample(index, number) for index, number in variants]

    def _sample(self, index: int, number: int) -> Sample:
        first = self._places[index] * self._num_crops
        row = first + number
        taught = self._table["taught"][first].as_buffer()
        return Sample(
            self.ids[index],
            self._array("source", row, self.shapes[index]),
            self._array("target", row, self.shapes[index]),
            self._array("picture", row, (-1, self.width)),
            self._array("reasoning", row, (-1, self.width)),
            self._array("direct", row, (-1, self.width)),
            None if taught is None else np.frombuffer(taught, np.float16).reshape(
                self._table["taught_tokens"][first].as_py(), -1
            ),
        )  # fmt: skip

    def _array(self, name: str, row: int, shape: tuple[int, ...]) -> Array:
        values = np.frombuffer(self._table[name][row].as_buffer(), np.float16)
        try:
            return values.reshape(shape)
        except ValueError as error:
            raise UserError(
                f"features of {self._table['id'][row]}: {name} has {values.size} values, which do "
                f"not make {shape}; delete the cache's folder and run again"
            ) from error


@dataclass(frozen=True)
class Chunk:
    """One row group of a dataset's shard, and the file that its features go to."""

    shard: str
    row_group: int
    parts: tuple[str, ...]
    file: str


def chunks(data: Place, parts: Sequence[str], folder: Place) -> list[Chunk]:
    """All row groups of a dataset, with the files that they get in a cache's folder."""
    with reached(data, "data"):
        return [
            Chunk(str(shard), group, tuple(parts), str(folder / f"{shard.stem}-{group:05d}.arrow"))
            for shard in shards(data, complete_manifest(data), "accepted")
            for group in range(parquet(shard).num_row_groups)
        ]


def write_chunk(chunk: Chunk, frozen: Frozen, batch_size: int) -> tuple[int, int]:
    """Compute and write a chunk's features, whole or not at all.

    Args:
        chunk: which records, and the file.
        frozen: the models.
        batch_size: crops a call of them, but at least those of one record.

    Returns:
        Records written, and records left out because no crop keeps their edit.

    Raises:
        UserError: a record's picture cannot be read.
    """
    shard = parquet(place(chunk.shard))
    table = shard.read_row_group(chunk.row_group, columns=list(COLUMNS))
    rows = [row for row in table.to_pylist() if row["part"] in chunk.parts]
    is_kept = [size_kept(row, frozen.config) is not None for row in rows]
    kept = list(compress(rows, is_kept))
    left_out = [row["id"] for row, stays in zip(rows, is_kept, strict=True) if not stays]
    schema = SCHEMA.with_metadata({LEFT_OUT: json.dumps(left_out)})
    step = max(1, batch_size // frozen.config.num_crops)
    batches = [kept[start : start + step] for start in range(0, len(kept), step)]
    with (
        replaced(place(chunk.file)) as temporary,
        pa.ipc.new_file(str(temporary), schema) as sink,
    ):
        # Pictures are decoded and cut while the models compute with those before them.
        cut = ahead(partial(_cut, batch, frozen.config) for batch in batches)
        for batch, made in zip(batches, cut, strict=True):
            origins = {row["id"]: origin(row) for row in batch}
            for position, sample in enumerate(frozen.samples(made)):
                number = position % frozen.config.num_crops
                sink.write_table(as_row(sample, origins[sample.id], number, schema))
    return len(kept), len(left_out)


def _cut(rows: Sequence[dict[str, Any]], config: EditorConfig) -> list[Pair]:
    return [pair for row in rows for pair in pairs(row, range(config.num_crops), config)]


def as_row(sample: Sample, made_of: str, number: int, schema: pa.Schema) -> pa.Table:
    """A variant as a row of a cache's file; `number` 0 has what is the same for all of them."""
    values = {
        name: [value.tobytes() if isinstance(value, np.ndarray) else value]
        for name, value in vars(sample).items()
    }
    values["latent_shape"] = [sample.source.shape]
    count = None if sample.taught is None else len(sample.taught)
    if number:
        values["taught"], count = [None], None
    return pa.table({**values, "origin": [made_of], "taught_tokens": [count]}, schema=schema)


def finish(folder: Place, files: Sequence[str], frozen: Frozen) -> None:
    """Write the cache's description, after which it counts as finished."""
    null = frozen.null()
    left_out: list[str] = []
    for name in files:
        filesystem, path = arrow(place(name))
        with filesystem.open_input_file(path) as file:
            left_out += json.loads(pa.ipc.open_file(file).schema.metadata[LEFT_OUT])
    content = {
        "files": [place(name).name for name in files],
        "width": null.shape[1],
        "null": null.tolist(),
        "num_crops": frozen.config.num_crops,
        "left_out": left_out,
        "revisions": frozen.revisions(),
    }
    write_file(folder / INFO, json.dumps(content))


def pinned(config: EditorConfig, folder: Place) -> EditorConfig:
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


def fingerprint(data: Place) -> str:
    """16 hexadecimal digits of a dataset: its manifest, its shards' names, sizes and versions."""
    with reached(data, "data"):
        counted = {shard.name for shard in shards(data, complete_manifest(data), "accepted")}
        there = [each for each in versions(data / "accepted") if each[0] in counted]
        content = [(data / MANIFEST).read_text(), there]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def key(config: EditorConfig, data: Place, parts: Sequence[str]) -> str:
    """16 hexadecimal digits of everything that the features follow from.

    A model in a folder or on a store counts with its files' names, sizes and versions; one of the
    hub with its name and revision (see `pinned`).

    Raises:
        UserError: a `package:` model is not there.
    """
    settings = config.model_dump(
        mode="json",
        include={
            "base", "vae", "condition", "mllm", "tokens", "image_size", "num_crops", "flip",
        },
    )  # fmt: skip
    files = {}
    for name in ("base", "vae", "mllm"):
        if settings[name]:
            settings[name].pop("device")
            folder = _place(getattr(config, name))
            with reached(folder, f"editor.{name}"):
                files[name] = versions(folder)
    # The base's UNet has no part in them.
    files["base"] = [file for file in files["base"] if file[0].startswith(("vae/", "text_", "tok"))]
    content = [
        PREPROCESSING, settings, files, bool(config.alignment_steps), list(parts),
        str(data.resolve()) if isinstance(data, Path) else str(data), fingerprint(data),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(shared: Place, config: EditorConfig, data: Place, parts: Sequence[str]) -> Place:
    """Where the features of some parts are: a finished cache that has them, else one of their own.

    Args:
        shared: the folder in which caches lie, each named by its `key`.
        config, data: as for `key`.
        parts: of the dataset, in its order.

    Raises:
        UserError: as `key`.
    """
    every = selected(data, None)[1]
    others = [part for part in every if part not in parts]
    own = shared / key(config, data, parts)
    for count in range(len(others) + 1):
        for more in itertools.combinations(others, count):
            wider = [part for part in every if part in (*parts, *more)]
            folder = shared / key(config, data, wider) if more else own
            with reached(folder, "features"):
                if (folder / INFO).exists():
                    return folder
    return own


def _place(model: ModelConfig) -> Place:
    return Path(weights.resolve(model)) if is_local(model.name) else place(model.name, "model")


def _info(folder: Place) -> dict[str, Any]:
    path = folder / INFO
    with reached(folder, "features"):
        if not path.exists():
            raise UserError(f"{folder}: no finished features (no {INFO})")
        text = path.read_text()
    try:
        content: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise _damaged(folder, error) from error
    return content


def _damaged(folder: Place, error: Exception) -> UserError:
    return UserError(f"features {folder}: damaged ({error}); delete this folder and run again")

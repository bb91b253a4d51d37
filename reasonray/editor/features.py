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
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from reasonray import dataset
from reasonray.editor.conditioning import multimodal_states, null_states, text_states
from reasonray.editor.weights import load_part
from reasonray.errors import RowError, UserError
from reasonray.images import decode
from reasonray.models import weights
from reasonray.recipe import EditorConfig
from reasonray.record import Image as Encoded
from reasonray.workspace import write_file

PREPROCESSING = 1
"""Raised when what is computed from the same picture and text changes."""

INFO = "features.json"
COLUMNS = ("id", "part", "instruction", "direct_instruction", "input_image", "edited_image")

Array = NDArray[np.float16]


@dataclass(frozen=True)
class Sample:
    """One variant of one record, as training takes it; float16, on the CPU.

    Attributes:
        id: the record's; a flipped variant's has "|flipped" appended.
        source: CHW, the source's latents, unscaled.
        target: CHW, the target's latents, unscaled.
        reasoning, direct: TD, states of the two instructions beside the source picture.
        taught: TD, CLIP's encoding of the direct instruction, which alignment imitates; or None.
    """

    id: str
    source: Array
    target: Array
    reasoning: Array
    direct: Array
    taught: Array | None = None


class Frozen:
    """The frozen models, and what they make of records.

    Args:
        config: which models, which tokens, at what size.

    Raises:
        UserError: a model is not there or not of the kind.
    """

    def __init__(self, config: EditorConfig) -> None:
        self.config = config
        self.vae: Any = load_vae(config)
        self.mllm: Any = None
        self.processor: Any = None
        self.text_encoder: Any = None
        self.tokenizer: Any = None
        if config.condition == "mllm":
            from transformers import AutoProcessor, LlavaForConditionalGeneration

            kind, dtype = LlavaForConditionalGeneration, weights.dtype(config.mllm)
            self.mllm = load_part(kind, config.mllm, dtype=dtype)
            self.mllm.to(weights.device(config.mllm)).eval().requires_grad_(False)
            self.processor = load_part(AutoProcessor, config.mllm)
        if config.condition == "text" or config.alignment_steps:
            self.text_encoder, self.tokenizer = load_text_parts(config)

    @torch.no_grad()
    def samples(self, rows: Sequence[dict[str, Any]]) -> list[Sample]:
        """All variants of some records, in their order.

        Args:
            rows: with `COLUMNS`; images as encoded bytes.

        Raises:
            UserError: a picture cannot be read; names the record.
        """
        ids, sources, targets, said, direct = [], [], [], [], []
        for row in rows:
            pair = [_squared(row, key, self.config.image_size) for key in COLUMNS[-2:]]
            for flipped in (False, True) if self.config.flip else (False,):
                shown = [ImageOps.mirror(each) if flipped else each for each in pair]
                ids.append(f"{row['id']}|flipped" if flipped else row["id"])
                sources.append(shown[0])
                targets.append(shown[1])
                said.append(row["instruction"])
                direct.append(row["direct_instruction"])
        source, target = self._latents(sources), self._latents(targets)
        reasoning, plain = self.states(sources, said), self.states(sources, direct)
        taught: list[Array] | list[None] = [None] * len(ids)
        if self.config.condition == "mllm" and self.text_encoder is not None:
            taught = _rows(*text_states(self.text_encoder, self.tokenizer, direct))
        return [Sample(*each) for each in zip(ids, source, target, reasoning, plain, taught,
                                              strict=True)]  # fmt: skip

    @torch.no_grad()
    def states(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[Array]:
        """What the editor is conditioned on, TD for each; padding is cut off."""
        if self.config.condition == "text":
            return _rows(*text_states(self.text_encoder, self.tokenizer, texts))
        tokens = self.config.tokens
        return _rows(*multimodal_states(self.mllm, self.processor, images, texts, tokens))

    def null(self) -> Array:
        """TD, the states of the dropped condition."""
        if self.config.condition == "text":
            return self.states([], [""])[0]
        return _rows(*null_states(self.mllm, self.processor, self.config.tokens))[0]

    def revisions(self) -> dict[str, str | None]:
        """The hub's commit that each model was loaded from; None: from a folder."""
        found = {
            "mllm": self.config.mllm if self.mllm is not None else None,
            "vae": self.config.vae,
        }
        commits = {name: weights.revision(model) for name, model in found.items() if model}
        part = "text_encoder" if self.config.vae else "vae"
        commits["base"] = weights.revision(self.config.base, f"{part}/config.json")
        return commits

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """C, H, W of a picture's latents."""
        vae = self.vae.config
        side = self.config.image_size // 2 ** (len(vae.block_out_channels) - 1)
        return vae.latent_channels, side, side

    def _latents(self, images: Sequence[Image.Image]) -> list[Array]:
        pixels = np.stack([np.asarray(image) for image in images])
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.vae.device, self.vae.dtype)
        latents: Tensor = self.vae.encode(tensor / 127.5 - 1).latent_dist.mode()
        return list(latents.cpu().half().numpy())


def load_vae(config: EditorConfig) -> Any:
    """The VAE, frozen."""
    from diffusers import AutoencoderKL

    model, subfolder = (config.vae, None) if config.vae else (config.base, "vae")
    vae = load_part(AutoencoderKL, model, subfolder, torch_dtype=weights.dtype(model))
    return vae.to(weights.device(model)).eval().requires_grad_(False)


def load_text_parts(config: EditorConfig) -> tuple[Any, Any]:
    """CLIP's text encoder and tokenizer of the base, frozen."""
    from transformers import CLIPTextModel, CLIPTokenizer

    dtype = weights.dtype(config.base)
    encoder = load_part(CLIPTextModel, config.base, "text_encoder", dtype=dtype)
    encoder.to(weights.device(config.base)).eval().requires_grad_(False)
    return encoder, load_part(CLIPTokenizer, config.base, "tokenizer")


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
    """What there is to do for a dataset."""
    found = []
    for shard in sorted((data / "accepted").glob("*.parquet")):
        for group in range(pq.ParquetFile(shard).num_row_groups):
            name = f"{shard.stem}-{group:05d}.arrow"
            found.append(Chunk(str(shard), group, tuple(parts), str(folder / name)))
    return found


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
    path = Path(chunk.file)
    temporary = path.with_suffix(".tmp")
    schema = pa.schema(
        [("id", pa.string()), ("source", pa.large_binary()), ("target", pa.large_binary()),
         ("reasoning", pa.large_binary()), ("direct", pa.large_binary()),
         ("taught", pa.large_binary()), ("taught_tokens", pa.int32())]
    )  # fmt: skip
    with pa.ipc.new_file(str(temporary), schema) as sink:
        for sample in samples:
            values = {
                name: [value.tobytes() if isinstance(value, np.ndarray) else value]
                for name, value in asdict(sample).items()
            }
            count = None if sample.taught is None else len(sample.taught)
            sink.write_table(pa.table({**values, "taught_tokens": [count]}, schema=schema))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
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
    content = [(data / dataset.MANIFEST).read_text(), _files(data / "accepted")]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def key(config: EditorConfig, data: Path, parts: Sequence[str]) -> str:
    """16 hexadecimal digits of everything that the features follow from.

    A model in a folder counts with its files' names, sizes and times; one of the hub with its name
    and revision (see `pinned`).

    Raises:
        UserError: a `package:` model is not there.
    """
    wanted = config.model_dump(
        mode="json",
        include={"base", "vae", "condition", "mllm", "tokens", "image_size", "flip"},
    )
    files = {}
    for name in ("base", "vae", "mllm"):
        if wanted[name]:
            wanted[name].pop("device")
            files[name] = _files(Path(weights.resolve(getattr(config, name))))
    # The base's UNet has no part in them.
    files["base"] = [file for file in files["base"] if file[0].startswith(("vae/", "text_", "tok"))]
    content = [
        PREPROCESSING, wanted, files, bool(config.alignment_steps), list(parts),
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
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        (str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns)
        for path in found
    ]


def _squared(row: dict[str, Any], column: str, size: int) -> Image.Image:
    """The picture at the training's size: scaled to cover a square, the middle of it."""
    image: Encoded = row[column] if row[column] else {"bytes": b"", "path": None}
    try:
        return ImageOps.fit(decode(image), (size, size), Image.Resampling.LANCZOS)
    except RowError as error:
        raise UserError(f"record {row['id']}: {column}: {error}") from error


def _rows(states_BTD: Tensor, mask_BT: Tensor) -> list[Array]:
    """TD float16 of each sample, without its padding."""
    found: list[Array] = []
    for states_TD, mask_T in zip(states_BTD, mask_BT, strict=True):
        found.append(states_TD[mask_T].cpu().half().numpy())
    return found

"""`reasonray benchmark`: a benchmark of what `generate` has made of a test split.

Train and test share no picture: neither by its id nor by its looks.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray

from reasonray.core import images
from reasonray.core.errors import UserError
from reasonray.core.place import Place, names, place, reached
from reasonray.core.record import Row, sample_seed
from reasonray.core.writing import space_checked, unusable
from reasonray.dataset.manifest import complete_manifest
from reasonray.dataset.reading import read_rows
from reasonray.evaluation.benchmarks import ours
from reasonray.prompts.direct import TEMPLATES, direct_instruction

MAX_DISTANCE = 4
"""Bits of 64 in which the perceptual hashes of one picture in two files differ at most."""

NUM_DIRECT = 2
"""Direct instructions of a pair, from templates of their own."""


def check_target(output: str | Place, against: Sequence[str]) -> None:
    """See that a benchmark can be made, before anything is generated for it.

    Args:
        output, against: as of `make_benchmark`.

    Raises:
        UserError: the output holds something or cannot be used, or one of `against` is no dataset.
    """
    folder = place(output)
    try:
        with reached(folder):
            there = names(folder)
    except OSError as error:
        raise unusable(folder, error) from error
    if ours.ABOUT in there:
        raise UserError(f"output {folder}: holds a benchmark already; give another folder")
    # What a process leaves that is killed while it writes that it is done.
    unfinished = {name for name in there if name.startswith(f".{ours.ABOUT}.")}
    if set(there) - {GENERATED, ours.PAIRS} - unfinished:
        raise UserError(f"output {folder}: holds something else; give a new or empty folder")
    for dataset in against:
        complete_manifest(dataset)


def make_benchmark(
    data: str | Place, output: str | Place, count: int, *, seed: int = 0, against: Sequence[str]
) -> int:
    """Write a benchmark of some of a dataset's samples; gives the number of pairs.

    Args:
        data: what `generate` has left, of a split that nothing was trained on.
        output: a new or empty folder, or the URI of one.
        count: pairs, drawn by the seed.
        seed: of the draw, and of the direct instructions.
        against: datasets that editors were trained on.

    Raises:
        UserError: there are fewer samples, a picture is in one of `against`, or the output holds
            something.
        RunError: the disk is full, or a store fails.
    """
    check_target(output, against)
    folder = place(output)
    manifest = complete_manifest(data)
    ids = _drawn([row["id"] for row in read_rows(data) if _is_usable(row)], count, seed)
    if len(ids) < count:
        raise UserError(
            f"{data}: {len(ids)} samples that can be asked for plainly and with reasoning, "
            f"{count} wanted; lower --count, or give another --output for more inputs or a higher "
            "one than before"
        )
    if against:
        looks = [_Looks.of(row) for row in read_rows(data) if row["id"] in ids]
        for dataset in against:
            _refuse_leaks(looks, dataset)
    about = {
        "made_from": str(data),
        "seed": seed,
        "compared_with": [str(each) for each in against],
        "recipe": manifest.recipe,
        "models": [model.model_dump() for model in manifest.models],
    }
    # Read again: all their pictures together may have no room.
    pairs = (_pair(row, seed) for row in read_rows(data) if row["id"] in ids)
    with reached(folder), space_checked(folder):
        return ours.write(folder, pairs, about)


GENERATED = "generated"
"""Where `reasonray benchmark` generates, in its output."""


def _is_usable(row: Row) -> bool:
    return bool(
        row["instruction"] and row["edited_caption"] and row["selected_category"]
        and row["target_category"] and row["edited_image"]
    )  # fmt: skip


def _drawn(ids: Sequence[str], count: int, seed: int) -> set[str]:
    """Some of them, whatever their order and number: a larger draw holds a smaller one."""
    by_draw = sorted(ids, key=lambda each: hashlib.sha256(f"{seed} {each}".encode()).digest())
    return set(by_draw[:count])


def _pair(row: Row, seed: int) -> dict[str, Any]:
    instructions = [{"kind": "reasoning", "text": row["instruction"]}]
    texts = [row["direct_instruction"]] if row["direct_instruction"] else []
    first = sample_seed(seed, row["id"], "benchmark")
    for offset in range(len(TEMPLATES)):
        text = direct_instruction(
            row["selected_category"] or "",
            row["target_category"] or "",
            row["edited_caption"] or "",
            seed=first + offset,
            input_caption=row["input_caption"] or "",
        )
        if len(texts) < NUM_DIRECT and text not in texts:
            texts.append(text)
    kinds = ["direct", *(f"direct-{number}" for number in range(2, len(texts) + 1))]
    instructions += [{"kind": kind, "text": text} for kind, text in zip(kinds, texts, strict=True)]
    return {
        "id": row["id"],
        "input_image": row["input_image"],
        "truth": row["edited_image"],
        "input_caption": row["input_caption"],
        "truth_caption": row["edited_caption"],
        "selected_category": row["selected_category"],
        "target_category": row["target_category"],
        "part": row["part"],
        "reasoning_type": row["reasoning_type"],
        "box": row["box"],
        "instructions": instructions,
        "license": row["license"],
    }


@dataclass(frozen=True)
class _Looks:
    """What tells a sample's picture from others.

    Attributes:
        id: of the sample.
        source, source_id: of the picture.
        bits: 64, its perceptual hash.
    """

    id: str
    source: str
    source_id: str
    bits: NDArray[np.bool_]

    @classmethod
    def of(cls, row: Row) -> "_Looks":
        return cls(row["id"], row["source"], row["source_id"], _bits(row))


_GLOBAL_IDS = re.compile(r"(v3det|mini|instructpix2pix(?!-parquet))(-|$)")
"""Sources whose ids mean one picture wherever they lie; others' are names of files or numbers of
rows, which two datasets may share."""


def _refuse_leaks(looks: Sequence[_Looks], dataset: str) -> None:
    """See that no picture is in a dataset, by its source's id or by its looks."""
    own = {
        (each.source, each.source_id): each.id for each in looks if _GLOBAL_IDS.match(each.source)
    }
    hashes = np.stack([each.bits for each in looks])
    for row in read_rows(dataset):
        twin = own.get((row["source"], row["source_id"]))
        if twin is None:
            distances = (hashes != _bits(row)).sum(1)
            nearest = int(distances.argmin())
            twin = looks[nearest].id if distances[nearest] <= MAX_DISTANCE else None
        if twin is not None:
            raise UserError(
                f"{dataset}: sample {row['id']} has the picture of {twin}, which would be tested "
                "on: benchmarks need inputs that nothing was trained on, such as a test split"
            )


def _bits(row: Row) -> NDArray[np.bool_]:
    image = row["input_image"]
    assert image is not None, "an accepted sample has its pictures"
    bits: NDArray[np.bool_] = imagehash.phash(images.decode(image)).hash.ravel()
    return bits

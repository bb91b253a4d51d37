"""Writers: an output of a run in the files that others' trainers read, one file for each kind.

`export` streams the accepted samples through a writer into a folder that appears when it is
complete. A writer is made with that folder, takes samples one by one with their instructions,
and is closed; of the dataset it keeps no more than a name and a number for each row.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

from reasonray.core.console import counted, say
from reasonray.core.errors import RunError, UserError
from reasonray.core.place import Place, names, place, reached
from reasonray.core.recipe import nearest
from reasonray.core.record import Part, Row
from reasonray.core.writing import out_of_space, publish, unusable, write_file
from reasonray.dataset.card import CARD, render
from reasonray.dataset.export import parquet
from reasonray.dataset.export.instructpix2pix import InstructPix2Pix
from reasonray.dataset.export.squares import squared
from reasonray.dataset.manifest import selected
from reasonray.dataset.reading import read_rows

Format = Literal["instructpix2pix", "diffusers", "magicbrush"]
Instruction = Literal["reasoning", "direct", "both"]


class Writer(Protocol):
    """Makes the files of one layout."""

    def write(self, sample: Row, instructions: Mapping[str, str]) -> None:
        """Add a row for each of a sample's instructions, given by kind."""

    def close(self) -> None:
        """Finish the files, after which they can be read."""


WRITERS: dict[Format, Callable[[Path], Writer]] = {
    "instructpix2pix": InstructPix2Pix,
    "diffusers": partial(parquet.Table, schema=parquet.DIFFUSERS, rows=parquet.diffusers),
    "magicbrush": partial(parquet.Table, schema=parquet.MAGICBRUSH, rows=parquet.magicbrush),
}

SQUARE: tuple[Format, ...] = ("instructpix2pix", "diffusers")
"""Formats whose trainers make squares of the pictures: squeezed ones, or the middle."""

# Kind -> the record's field.
_FIELDS = {"reasoning": "instruction", "direct": "direct_instruction"}


def export(
    folder: str | Place,
    format: Format,
    output: str | Place,
    instruction: Instruction = "reasoning",
    parts: Sequence[Part] | None = None,
    whole: bool = False,
) -> int:
    """Write the accepted samples of a complete output as others' trainers read them.

    Args:
        folder: what `generate` made.
        format: instructpix2pix: the original layout, for `edit_dataset.py`; diffusers: Parquet
            for `train_instruct_pix2pix.py`; magicbrush: Parquet with MagicBrush's columns.
        output: a new or empty folder; it appears when it is complete. On an object store, too,
            where it is sent once it is complete on this machine.
        instruction: which one is the trainer's; both: two rows for each sample.
        parts: only samples of these; by default all.
        whole: keep the pictures' shapes where their trainer makes squares of them (`SQUARE`); by
            default they are cut to squares that keep the edit, and a sample whose edit is kept by
            none is left out, counted and said.

    Returns:
        The number of rows in the output.

    Raises:
        UserError: an unknown word, no complete output in `folder`, no sample of the parts, or
            an `output` that holds something.
        RunError: the disk is full; nothing is left behind.
    """
    _check("format", format, get_args(Format))
    _check("instruction", instruction, get_args(Instruction))
    target = _free(output)
    manifest, chosen = selected(folder, parts)
    kinds = list(_FIELDS) if instruction == "both" else [instruction]
    total = sum(manifest.parts[part].accepted for part in chosen)

    beside = target.parent if isinstance(target, Path) else Path(tempfile.gettempdir())
    partial_folder = beside / f".{target.name}.{os.getpid()}"
    shutil.rmtree(partial_folder, ignore_errors=True)  # of a killed process that had our number
    num_samples: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    left_out, cut = 0, format in SQUARE and not whole
    try:
        try:
            partial_folder.mkdir(parents=True)
        except OSError as error:
            if out_of_space(error):
                raise
            raise unusable(target, error) from error
        writer = WRITERS[format](partial_folder)
        samples = (row for row in read_rows(folder) if row["part"] in chosen)
        for every in counted(samples, total, "samples"):
            sample = squared(every, jpeg=format == "instructpix2pix") if cut else every
            if sample is None:
                left_out += 1
                continue
            texts = {kind: cast(str, sample.get(_FIELDS[kind])) for kind in kinds}
            writer.write(sample, texts)
            num_samples[sample["part"]] += 1
            licenses[sample.get("license") or "not stated"] += 1
        writer.close()
        content = {
            "format": format, "kinds": kinds, "num_samples": num_samples, "left_out": left_out,
            "cut": cut,
        }  # fmt: skip
        write_file(partial_folder / CARD, render("export/card.md", manifest, licenses, **content))
        with reached(target):
            publish(partial_folder, _free(target))
    except OSError as error:
        if out_of_space(error):
            raise RunError(
                f"output {output}: no space left; free some and start the same command again",
                again=False,
            ) from error
        raise
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    if left_out:
        say(f"{left_out} samples are left out: no square keeps their edit; --whole takes them, too")
    return num_samples.total() * len(kinds)


def _check(name: str, word: str, valid: Sequence[str]) -> None:
    if word not in valid:
        raise UserError(f"{name} {word}: unknown{nearest(word, valid)}")


def _free(output: str | Place) -> Place:
    """A folder that can be made, absolute.

    Raises:
        UserError: something is there.
    """
    target = place(output)
    try:
        with reached(target):
            is_taken = target.is_file() or names(target)
    except OSError as error:
        raise unusable(target, error) from error
    if is_taken:
        raise UserError(f"output {output}: is there already; give a new or empty folder")
    return target

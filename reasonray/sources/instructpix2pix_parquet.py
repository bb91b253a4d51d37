"""InstructPix2Pix as the Hugging Face hub holds it: Parquet files with the images inside.

Columns `original_image, edit_prompt, edited_image` and, where known, `original_prompt` and
`edited_prompt`; images as `struct<bytes, path>`, plain binary, or a text: a path beside the file,
base64 or a data URI. Only the prompts are read here, a row group at a time; an image is found again
by its row group, row and column.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from reasonray.core.errors import UserError
from reasonray.core.record import Part
from reasonray.core.sections import SourceConfig
from reasonray.sources.files import Folder, passed_over, summary
from reasonray.sources.item import Item

PARTS: tuple[Part, ...] = ("I", "II")

_IMAGES = ("original_image", "edited_image")
_REQUIRED = (*_IMAGES, "edit_prompt")
_TEXTS = ("edit_prompt", "original_prompt", "edited_prompt")


def read(source: SourceConfig, notices: list[str]) -> Iterator[Item]:
    """Every row of every file below, in the order of the file names; ids are `<file>/<row>`.

    Rows are padded with zeros: the plan goes by id, and so through one row group after another.

    Args:
        source: its path is a folder, or one .parquet file.
        notices: gets a sentence with a count about files of data that are passed over.

    Raises:
        UserError: there is no Parquet file, or one is damaged, lacks a column or has one of
            another type.
    """
    if source.path.endswith(".parquet"):
        parent, _, name = source.path.rpartition("/")
        folder, names = Folder.at(parent or "."), iter([name])
    else:
        folder = Folder.at(source.path)
        files = list(folder.walk())
        names = (name for name in files if name.endswith(".parquet"))
        notices += passed_over(source.path, files)
    num_files = 0
    for name in names:
        num_files += 1
        yield from _rows(folder, name)
    if not num_files:
        raise UserError(
            f"source {source.path}: expected .parquet files with {', '.join(_REQUIRED)}, "
            f"found {summary(folder)}"
        )


def _check_types(schema: pa.Schema, uri: str) -> None:
    for name in (*_IMAGES, *_TEXTS):
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if name in _TEXTS and not _is_text(kind):
            raise UserError(f"{uri}: column {name} holds {kind}, expected string")
        if name in _IMAGES and not _is_image(kind):
            raise UserError(
                f"{uri}: column {name} holds {kind}, expected images: struct<bytes: binary, path: "
                "string>, binary, or string with a path or base64"
            )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        members = {field.name: field.type for field in kind}
        return any(name in members and _is_cell(members[name]) for name in ("bytes", "path"))
    return _is_cell(kind)


def _is_cell(kind: pa.DataType) -> bool:
    return _is_binary(kind) or _is_text(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_null(kind)
    )


def _rows(folder: Folder, name: str) -> Iterator[Item]:
    uri = folder.uri(name)
    try:
        with folder.filesystem.open(folder.path(name), "rb") as opened:
            file = pq.ParquetFile(opened)
            present = file.schema_arrow.names
            missing = [column for column in _REQUIRED if column not in present]
            if missing:
                raise UserError(
                    f"{uri}: no column {', '.join(missing)} (it has {', '.join(present)})"
                )
            _check_types(file.schema_arrow, uri)
            texts = [column for column in _TEXTS if column in present]
            digits = len(str(file.metadata.num_rows - 1))
            first = 0
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group, columns=texts).to_pylist()
                for index, row in enumerate(rows):
                    place = f"{uri}#{group}/{index}"
                    yield Item(
                        source_id=f"{name.removesuffix('.parquet')}/{first + index:0{digits}}",
                        input_uri=f"{place}/{_IMAGES[0]}",
                        edited_uri=f"{place}/{_IMAGES[1]}",
                        input_caption=row.get("original_prompt") or None,
                        edited_caption=row.get("edited_prompt") or None,
                        direct_instruction=row["edit_prompt"] or None,
                    )
                first += len(rows)
    except FileNotFoundError as error:
        raise UserError(f"source {uri}: there is no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        problem = str(error).splitlines()[0]
        raise UserError(f"{uri}: cannot be read as Parquet ({problem})") from error

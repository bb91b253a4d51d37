"""An editor's finished pictures in a folder: which file answers which item.

DIR/cat__17.png     the picture of item cat/17: each / of an id is __ in its file's name
DIR/cat/17.png      the same; a folder has one of the two
DIR/own/name.jpg    the same, if it is what the benchmark's own scripts call it
DIR/000000.parquet  the edits of an evaluation, with their items' ids
"""

import unicodedata
from collections.abc import Iterable, Iterator

import pyarrow as pa

from reasonray.core.errors import UserError
from reasonray.core.images import extensions
from reasonray.core.place import Place, files, parquet, reached
from reasonray.evaluation.items import Picture

_EDITED = ("id", "picture", "reason")


def file_stem(item_id: str) -> str:
    """The name, without extension, of the picture that answers an item.

    Args:
        item_id: as the benchmark has it; its "/" become "__", all else stays.
    """
    return item_id.replace("/", "__")


def check_stems(item_ids: Iterable[str]) -> None:
    """See that no two items share a picture's name.

    Raises:
        UserError: two ids are equal, or differ only in what stands for "/"; names both.
    """
    owners: dict[str, str] = {}
    for item_id in item_ids:
        key = _key(item_id)
        if key in owners:
            raise UserError(
                f"items {owners[key]!r} and {item_id!r}: both have the picture "
                f"{file_stem(item_id)}.png; give each item an id of its own"
            )
        owners[key] = item_id


class FinishedPictures:
    """The pictures below a folder, by the items that they answer.

    Args:
        folder: looked through once, to any depth; PNG, JPEG, WebP and what else is read, and an
            evaluation's Parquet files.
        name: of the option, for messages.

    Raises:
        UserError: there is no such folder, or no picture below it.
    """

    def __init__(self, folder: Place, name: str) -> None:
        self._name = name
        self._uris: dict[str, list[str]] = {}
        with reached(folder, name):
            for path in files(folder):
                self._add(path, str(path).removeprefix(str(folder)).lstrip("/"))
        if not self._uris:
            raise UserError(
                f"{name} {folder}: no picture is there; expected one for each item, such as "
                "cat__17.png for the item cat/17"
            )

    def find(self, item_id: str, own_name: str | None = None) -> Picture | None:
        """The picture of an item; None: there is none.

        Args:
            item_id: as the benchmark has it.
            own_name: where the benchmark's own scripts look for it, with any extension.

        Raises:
            UserError: there are two.
        """
        keys = [_key(item_id)]
        if own_name is not None:
            keys.append(_key(own_name.rpartition(".")[0]))
        uris = [uri for key in dict.fromkeys(keys) for uri in self._uris.get(key, [])]
        if len(uris) > 1:
            raise UserError(
                f"{self._name}: {uris[0]} and {uris[1]} are both of item {item_id}; leave one"
            )
        return Picture(uris[0]) if uris else None

    def _add(self, path: Place, below: str) -> None:
        stem, dot, extension = below.rpartition(".")
        if dot and f".{extension.lower()}" in extensions():
            self._uris.setdefault(_key(stem), []).append(str(path))
        # What an evaluation that goes on has in NAME.rows is in NAME.parquet afterwards.
        elif extension == "parquet" and ".rows/" not in below:
            for item_id, uri in _edited(path):
                self._uris.setdefault(_key(item_id), []).append(uri)


def _edited(path: Place) -> Iterator[tuple[str, str]]:
    """Items with a picture in a file of an evaluation (`editing.SCHEMA`), and where that is."""
    try:
        with parquet(path) as file:
            if not set(_EDITED) <= set(file.schema_arrow.names):
                return
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group, columns=["id", "reason"]).to_pylist()
                for number, row in enumerate(rows):
                    if row["reason"] is None:
                        yield row["id"], f"{path}#{group}/{number}/picture"
    except pa.ArrowInvalid as error:
        raise UserError(f"{str(error).splitlines()[0]}; it cannot be read as Parquet") from error


def _key(item_id: str) -> str:
    # A Mac's file system spells an é as two characters.
    return unicodedata.normalize("NFC", file_stem(item_id))

"""An editor's finished pictures in a folder: which file answers which item.

DIR/cat__17.png     the picture of item cat/17: each / of an id is __ in its file's name
DIR/cat/17.png      the same; a folder has one of the two
"""

import unicodedata
from collections.abc import Iterable

from reasonray.core.errors import UserError
from reasonray.core.images import extensions
from reasonray.core.place import Place, files, reached


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
        folder: looked through once, to any depth; PNG, JPEG, WebP and what else is read.
        name: of the option, for messages.

    Raises:
        UserError: there is no such folder, or no picture below it.
    """

    def __init__(self, folder: Place, name: str) -> None:
        self._folder, self._name = folder, name
        self._paths: dict[str, list[Place]] = {}
        with reached(folder, name):
            listed = files(folder)
        for path in listed:
            below = str(path).removeprefix(str(folder)).lstrip("/")
            stem, dot, extension = below.rpartition(".")
            if dot and f".{extension.lower()}" in extensions():
                self._paths.setdefault(_key(stem), []).append(path)
        if not self._paths:
            raise UserError(
                f"{name} {folder}: no picture is there; expected one for each item, such as "
                "cat__17.png for the item cat/17"
            )

    def find(self, item_id: str) -> Place | None:
        """Where the picture of an item lies; None: there is none.

        Raises:
            UserError: there are two.
        """
        paths = self._paths.get(_key(item_id), [])
        if len(paths) > 1:
            raise UserError(
                f"{self._name}: {paths[0]} and {paths[1]} are both of item {item_id}; leave one"
            )
        return paths[0] if paths else None


def _key(item_id: str) -> str:
    # A Mac's file system spells an é as two characters.
    return unicodedata.normalize("NFC", file_stem(item_id))

"""A benchmark as it is named on the command line: what it is called, where it lies, what is in it.

DIR             a folder of `reasonray benchmark`, called ours
NAME=DIR        the same, called NAME
NAME=PATH       a public one: NAME is one of `benchmarks.BENCHMARKS`
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonray.core.errors import UserError
from reasonray.core.uris import is_local
from reasonray.evaluation.benchmarks import open_benchmark
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.items import Benchmark, Item, Picture
from reasonray.evaluation.pictures import check_stems

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""What a benchmark or an editor may be called: folders are named after them."""


@dataclass(frozen=True)
class Subject:
    """A benchmark, opened.

    Attributes:
        name: in tables and folders.
        path: of its folder or file, absolute; a URI, or the hub's id.
        benchmark: opened.
        items: all of it.
    """

    name: str
    path: str
    benchmark: Benchmark
    items: Sequence[Item]

    @functools.cached_property
    def content(self) -> str:
        """16 hexadecimal digits of what its items hold, their pictures' bytes with it.

        Where they lie is no part of it: a benchmark may be moved. All pictures are read once.
        """
        digest_of = functools.cache(Picture.digest)

        def plain(value: Any) -> Any:
            if isinstance(value, Picture):
                return digest_of(value)
            if isinstance(value, Mapping):
                return {str(key): plain(each) for key, each in value.items()}
            if isinstance(value, list | tuple):
                return [plain(each) for each in value]
            return value if isinstance(value, str | int | float | None) else str(value)

        whole = hashlib.sha256()
        for item in self.items:
            values = [plain(getattr(item, each.name)) for each in dataclasses.fields(item)]
            whole.update(json.dumps(values, sort_keys=True).encode())
        return whole.hexdigest()[:16]


def all_opened(texts: Sequence[str]) -> list[Subject]:
    """Benchmarks, each as `opened` has it.

    Raises:
        UserError: as `opened`, or two have one name.
    """
    subjects = [opened(text) for text in texts]
    refuse_twice("benchmark", [subject.name for subject in subjects])
    return subjects


def refuse_twice(what: str, names: Sequence[str]) -> None:
    """See that no two things have one name.

    Raises:
        UserError: two have; names it.
    """
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{what} {twice[0]}: named twice; give each a name of its own")


def opened(text: str) -> Subject:
    """`DIR`, or `NAME=PATH`.

    Raises:
        UserError: there is none of that name, or nothing of it at the path.
    """
    return open_subject(*_parts(text))


def open_subject(name: str, path: str) -> Subject:
    """A benchmark by its name and where it lies.

    Raises:
        UserError: as `opened`.
    """
    benchmark = open_benchmark(name, path)
    items = benchmark.items()
    if not items:
        raise UserError(f"benchmark {name}={path}: there are no items")
    try:
        check_stems(item.id for item in items)
    except UserError as error:
        raise UserError(f"benchmark {name}={path}: {error}") from error
    return Subject(name, path, benchmark, items)


def absolute(path: str) -> str:
    """The same file or folder for a process that is in another folder; what is none stays."""
    here = Path(path).expanduser()
    return str(here.absolute()) if is_local(path) and here.exists() else path


def _parts(text: str) -> tuple[str, str]:
    """Name and path; a folder's own name may hold a "="."""
    name, _, path = text.partition("=")
    if not path or not NAME.fullmatch(name) or Path(text).exists():
        name, path = Ours.name, text
    return name, absolute(path)

"""Sources: one reader for each on-disk format, and the plan that is made of them.

A reader is a module with `PARTS` (which parts it can feed) and `read(source, notices)`, a generator
of `Item`s that notes what it passes over. `plan` spreads the items over parts and variations; no
image is opened before the stage `load`, which reads it through `core.reading`.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from reasonray.core.errors import UserError
from reasonray.core.place import Place
from reasonray.core.reading import printable
from reasonray.core.recipe import Recipe
from reasonray.core.record import Part, Row, sample_id
from reasonray.core.sections import SourceConfig
from reasonray.core.uris import is_local
from reasonray.sources import folder, instructpix2pix, instructpix2pix_parquet, v3det
from reasonray.sources.item import Item
from reasonray.sources.mini.source import make as make_mini_world
from reasonray.sources.sampling import sample

__all__ = ["FORMATS", "Item", "plan"]

Read = Callable[[SourceConfig, list[str]], Iterator[Item]]

FORMATS: dict[str, tuple[Read, tuple[Part, ...]]] = {
    "instructpix2pix": (instructpix2pix.read, instructpix2pix.PARTS),
    "instructpix2pix-parquet": (instructpix2pix_parquet.read, instructpix2pix_parquet.PARTS),
    "v3det": (v3det.read, v3det.PARTS),
    "folder": (folder.read, folder.PARTS),
}
"""format -> its reader and the parts it feeds; `mini` is made of two of them."""


def plan(recipe: Recipe, workdir: Place, notices: list[str]) -> Iterator[Row]:
    """One light row (`record.PLAN_SCHEMA`) for each thing to do, in an order that never changes.

    Args:
        recipe: its sources, parts, variations, limit and seed count.
        workdir: a folder or URI that all machines read, for a mini world's pictures.
        notices: gets a sentence, with a count, about each kind of thing that is passed over.

    Raises:
        UserError: no source, a source that is not what it is said to be, an id that occurs
            twice, or nothing to do for the recipe's parts.
    """
    if not recipe.sources:
        raise UserError("no source: name one in the recipe or with --source FORMAT=PATH")
    inputs = _inputs(recipe, workdir, notices)
    if recipe.limit is not None:
        strata = ((f"{each.part}/{each.name}", each.row_id(0), each) for each in inputs)
        inputs = iter(sample(strata, recipe.limit, recipe.seed))
    num_rows = 0
    for each in inputs:
        for variation in range(recipe.variations):
            num_rows += 1
            yield each.row(variation)
    if not num_rows:
        formats = ", ".join(source.format for source in recipe.sources)
        raise UserError(
            f"nothing to do: sources {formats} have no inputs for parts {', '.join(recipe.parts)}"
        )


@dataclass(frozen=True)
class _Input:
    """An item for one part of one source."""

    part: Part
    name: str
    source: SourceConfig
    item: Item

    def row_id(self, variation: int) -> str:
        return sample_id(self.part, self.name, self.item.source_id, variation)

    def row(self, variation: int) -> Row:
        """The plan's."""
        item, path = self.item, self.source.path
        # Parts II and III make an edit of their own: only the input is theirs.
        pair = self.part == "I"
        return {
            "id": self.row_id(variation),
            "part": self.part,
            "source": self.name,
            "source_id": item.source_id,
            "variation": variation,
            "input_uri": item.input_uri,
            "edited_uri": item.edited_uri if pair else None,
            "root": str(Path(path).expanduser().absolute()) if is_local(path) else None,
            "source_categories": list(item.categories) or None,
            "input_caption": item.input_caption,
            "edited_caption": item.edited_caption if pair else None,
            "direct_instruction": item.direct_instruction if pair else None,
            "license": item.license or self.source.license,
            "stage": "load" if item.reason else None,
            "reason": item.reason,
            "detail": item.detail,
        }


def _inputs(recipe: Recipe, workdir: Place, notices: list[str]) -> Iterator[_Input]:
    for name, source in _named(_expanded(recipe.sources, workdir)):
        read, served = FORMATS[source.format]
        parts = [part for part in served if part in recipe.parts]
        if not parts:
            continue
        items = map(_printable, _permitted(read(source, notices), source))
        for item in _unique(items, name):
            for part in parts:
                if part != "I" or item.edited_uri is not None:
                    yield _Input(part, name, source, item)


def _expanded(
    sources: list[SourceConfig], workdir: Place
) -> Iterator[tuple[str, str, SourceConfig]]:
    """Name, path as the recipe has it, and what is read."""
    for source in sources:
        if source.format == "mini":
            for world in make_mini_world(source, workdir):
                yield f"mini-{world.format}", source.path, world
        else:
            suffix = f"-{source.split}" if source.format == "v3det" else ""
            yield f"{source.format}{suffix}", source.path, source


def _named(
    expanded: Iterator[tuple[str, str, SourceConfig]],
) -> Iterator[tuple[str, SourceConfig]]:
    """Ids begin with the source's name, so two of one name are told apart by their paths."""
    listed = list(expanded)
    names = [name for name, _, _ in listed]
    unique_names: set[str] = set()
    for name, path, source in listed:
        unique = name
        if names.count(name) > 1:
            unique += f"-{hashlib.blake2b(path.encode(), digest_size=3).hexdigest()}"
        if unique in unique_names:
            raise UserError(f"source {source.format}={path}: listed twice")
        unique_names.add(unique)
        yield unique, source


def _permitted(items: Iterator[Item], source: SourceConfig) -> Iterator[Item]:
    try:
        yield from items
    except PermissionError as error:
        raise UserError(
            f"source {source.format}={source.path}: this user may not read it ({error})"
        ) from error


def _printable(item: Item) -> Item:
    texts = {name: printable(value) for name, value in vars(item).items() if isinstance(value, str)}
    return replace(item, **texts, categories=tuple(map(printable, item.categories)))


def _unique(items: Iterator[Item], name: str) -> Iterator[Item]:
    """Digests, not ids, are kept: some 70 bytes an item."""
    digests: set[bytes] = set()
    for item in items:
        digest = hashlib.blake2b(item.source_id.encode(), digest_size=8).digest()
        if digest in digests:
            raise UserError(
                f"source {name}: the id {item.source_id} occurs twice, again at {item.input_uri}"
            )
        digests.add(digest)
        yield item

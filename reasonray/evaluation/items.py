"""One shape for what a benchmark asks of an editor, of a judge, and for its table's figures.

The benchmarks differ in layout, rubric and formula; what runs editors and judges over them sees
only what stands here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import PIL.Image
import pyarrow as pa

from reasonray.core import images
from reasonray.core.errors import RowError
from reasonray.core.reading import NoImageError, read_bytes

AS_PUBLISHED, AS_INTENDED = "as published", "as intended"
"""Ends of the names of two figures: what the benchmark's own script would say, its faults and what
it leaves out of a mean in silence included; and what its rules say, where an editor that gave no
picture has the lowest score, and what a judge never answered is left out and counted."""

TRUTH_METRICS = ("L1", "L2", "CLIP-I", "DINO", "CLIP-T")
"""Of an edited picture beside its truth; as the field's tables have them."""

INPUT_METRICS = ("CLIP-dir", "CLIP-im", "CLIP-out", "L1", "DINO")
"""Of an edited picture beside the one before, where there is no truth."""


FACETS = ("part", "reasoning_type", "selected_category", "target_category")
"""Of `Item.fields` those by which figures are also shown."""


@dataclass(frozen=True)
class Picture:
    """Where a picture lies; it is read when it is opened.

    Attributes:
        uri: a path, a URI, or `<parquet>#<row group>/<row>/<column>`.
    """

    uri: str

    def open(self) -> PIL.Image.Image:
        """The pixels: RGB in sRGB, upright by EXIF, transparency on white.

        Raises:
            RowError: `missing_image`, or one of `images.REJECTS`; names the file.
            RunError: a remote filesystem fails.
        """
        return images.read({"bytes": self._read(), "path": self.uri}).pixels

    def digest(self) -> str | None:
        """SHA-256 of the file's bytes, the same wherever it lies; None: they cannot be read.

        Raises:
            RunError: a remote filesystem fails.
        """
        try:
            return hashlib.sha256(self._read()).hexdigest()
        except RowError:
            return None

    def _read(self) -> bytes:
        try:
            return read_bytes(self.uri)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            problem = error if isinstance(error, NoImageError) else "there is no such file"
            raise RowError("missing_image", f"{self.uri}: {problem}") from error
        except (OSError, pa.ArrowInvalid) as error:
            problem = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise RowError("unreadable_image", f"{self.uri}: {problem}") from error


@dataclass(frozen=True)
class Item:
    """One instruction to an editor, and all that is known of what should come of it.

    Attributes:
        id: unique in its benchmark, the same whenever it is read.
        group: the benchmark's own category or task; "" if it has none.
        language: of the instruction: en or zh.
        pictures: before the edit; most have one.
        instruction: as the editor is given it, without `rules`.
        references: truths or reference pictures.
        reference_text: what should be seen afterwards: an explanation or the output's caption.
        input_caption: of the picture before.
        rules: what is put before the instruction, on a line of its own.
        fields: what only this benchmark's rubric, formula and layout read.
    """

    id: str
    group: str
    language: str
    pictures: tuple[Picture, ...]
    instruction: str
    references: tuple[Picture, ...] = ()
    reference_text: str = ""
    input_caption: str = ""
    rules: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_instruction(self) -> str:
        """What the editor is given: rules, then the instruction."""
        return f"{self.rules}\n{self.instruction}" if self.rules else self.instruction

    def before(self) -> PIL.Image.Image:
        """The first picture before the edit.

        Raises:
            RowError: there is none, or as `Picture.open`.
        """
        if not self.pictures:
            raise RowError("missing_image", f"item {self.id}: names no picture to edit")
        return self.pictures[0].open()


@dataclass(frozen=True)
class JudgeCall:
    """One question to a judge that sees.

    Attributes:
        prompt: the user turn's text: what is shown and how it is scored. The form of the reply
            is no part of it: the judge asks for the axes in its own.
        pictures: RGB, of any size, in the order that the prompt speaks of.
        axes: what the reply holds: name of an axis (lower case, with _; unique among all calls of
            an item) and its lowest and highest integer.
        name: which of the benchmark's calls it is, unique among those of an item.
    """

    prompt: str
    pictures: tuple[PIL.Image.Image, ...]
    axes: Mapping[str, tuple[int, int]]
    name: str


Axes = Mapping[str, float]
"""What the judge (of all calls together) or the metrics gave for one item, by axis or metric; an
axis whose reply was never valid is absent."""

Scores = Mapping[str, float | None]
"""An item's own measures, in the benchmark's unit. None: the measure is one of this item and cannot
be had, or its rule leaves the item out; a measure that the item does not have is absent."""


@dataclass(frozen=True)
class Scored:
    """An item and what came of it.

    Attributes:
        item: of the benchmark.
        axes: of the edited picture; None: there is no picture, since the editor failed.
    """

    item: Item
    axes: Axes | None


@dataclass(frozen=True)
class Figure:
    """A number of a benchmark's own table.

    Attributes:
        measure: its column; ends in `AS_PUBLISHED` or `AS_INTENDED` where the two can differ.
        group: its row: a category or task, several of them together, or "" for the whole.
        value: in the benchmark's own unit; None where there is nothing to take a mean of, or the
            benchmark's own script would stop.
        num_items: of the group, that have the measure.
        num_missing: of them without a picture.
        num_unjudged: of them with a picture, for which an axis that the measure needs is absent.
    """

    measure: str
    group: str
    value: float | None
    num_items: int
    num_missing: int
    num_unjudged: int


class Benchmark(Protocol):
    """A benchmark that has been opened: its items, rubric and formulas.

    Attributes:
        name: on the command line.
        rubric: name and version of what the judge is asked, to be stamped on every figure; "" where
            none is. All of it is in our own words: scores of the same judge by the authors' words
            differ.
        yardstick: what gives the axes: a judge by `calls`, or the `TRUTH_METRICS` beside the first
            reference ("truth") or the `INPUT_METRICS` beside the first picture before ("input").
        num_published: items that the whole benchmark has; with fewer it is a part of it.
    """

    name: str
    rubric: str = ""
    yardstick: Literal["judge", "truth", "input"]
    num_published: int

    def items(self) -> Sequence[Item]:
        """All items, in the order of the benchmark's files.

        Raises:
            UserError: a file is missing, damaged or of another form; names file and item.
        """
        ...

    def output_name(self, item: Item) -> str:
        """Where the benchmark's own scripts look for the edited picture, below an editor's
        folder, with "/"."""
        return f"{item.id}.png"

    def calls(self, item: Item, edited: PIL.Image.Image) -> list[JudgeCall]:
        """What the judge is asked about an edited picture; nothing where `yardstick` is no judge.

        Raises:
            RowError: a picture of the item is missing or broken.
        """
        return []

    def parse(self, call: str, reply: str) -> dict[str, int] | None:
        """The axes that the benchmark's own script reads out of its judge's reply, fault and all.

        For replies that others have recorded; our judge's are read by the judge.

        Args:
            call: its name.
            reply: to the benchmark's own prompt.

        Returns:
            None: the script finds nothing in it.
        """
        return None

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """The item's own measures.

        Args:
            item: of this benchmark.
            axes: as in `Scored`.
        """
        ...

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """The benchmark's own table."""
        ...

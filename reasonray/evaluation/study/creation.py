"""Lays a study out: draws the items, prepares the pictures so that none tells its editor, decides
who is asked what."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import PIL.Image

from reasonray.core.console import counted
from reasonray.core.errors import RowError, UserError
from reasonray.core.images import encode_webp
from reasonray.core.place import place
from reasonray.core.version import __version__
from reasonray.core.writing import filled
from reasonray.evaluation.items import Picture
from reasonray.evaluation.pictures import FinishedPictures, file_stem
from reasonray.evaluation.study.assignment import arranged, assigned, drawn, quota_of
from reasonray.evaluation.study.questions import Question, in_order, read_questions
from reasonray.evaluation.study.store import DATABASE, PICTURES, Store, StoredQuestion

MAX_SIDE = 1024
"""Pixels: what a screen shows of one of several pictures; without loss a megapixel is some 1 MB."""

# Beyond what rounding to a multiple of 64 does to a small picture, a resized one is distorted.
_DISTORTED = 0.1


@dataclass
class Notes:
    """What was not as one might take it to be, to be said and kept.

    Attributes:
        missing: editor -> items for which it has no picture, of all that there are.
        num_resized: editor -> pictures that had not their input's size.
        num_distorted: of them those of other proportions.
        broken: what was wrong, of items that were drawn and left out for it.
        num_alike: items for which two editors have the very same picture.
    """

    missing: dict[str, list[str]]
    num_resized: dict[str, int]
    num_distorted: dict[str, int]
    broken: list[str] = field(default_factory=list)
    num_alike: int = 0

    @classmethod
    def none(cls, editors: Iterable[str]) -> "Notes":
        """Nothing to say of these editors."""
        names = list(editors)
        return cls({name: [] for name in names}, dict.fromkeys(names, 0), dict.fromkeys(names, 0))


def create(
    target: Path,
    items: str,
    editors: Mapping[str, str],
    *,
    count: int,
    num_workers: int,
    quota: int | None,
    seed: int,
) -> list[str]:
    """Make a new study.

    Args:
        target: new or empty folder of this machine.
        items: as in `questions.read_questions`.
        editors: name -> folder of its finished pictures.
        count: items of each kind of instruction, at most.
        num_workers: who will be asked.
        quota: items of each kind for each of them; None: as few as leave no item out.
        seed: decides which items are drawn, who gets which, and what stands where.

    Returns:
        Sentences that say what the study is, and what was left out and why.

    Raises:
        UserError: fewer than two editors, nothing that all of them have answered, or the folder
            is in use.
    """
    if len(editors) < 2:
        raise UserError("--editor: expected two or more, each NAME=DIR; one is best of itself")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: is there already; give a new or empty folder")
    folders = {
        name: FinishedPictures(place(folder, f"--editor {name}"), f"--editor {name}")
        for name, folder in editors.items()
    }
    questions, notes = read_questions(items), Notes.none(editors)
    candidates = _answered(questions, folders, notes)
    for kind, listed in candidates.items():  # before the pictures take their time
        quota_of(kind, min(count, len(listed)), num_workers, quota)
    with filled(target, last=DATABASE) as folder:
        (folder / PICTURES).mkdir()
        prepared = _prepared(candidates, count, seed, folder / PICTURES, notes)
        kinds = {kind: [each.item for each in listed] for kind, listed in prepared.items()}
        quotas = {kind: quota_of(kind, len(ids), num_workers, quota) for kind, ids in kinds.items()}
        lists = assigned(kinds, quotas, num_workers, seed)
        Store.create(
            folder,
            list(editors),
            [question for listed in prepared.values() for question in listed],
            # Not of the seed: who knows it must not know the links.
            [secrets.token_urlsafe(18) for _ in lists],
            [
                [(item, arranged(list(editors), worker, item, seed)) for item in listed]
                for worker, listed in enumerate(lists, start=1)
            ],
            {
                "reasonray": __version__,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "items": items,
                "editors": dict(editors),
                "seed": seed,
                "quotas": quotas,
                "notes": asdict(notes),
            },
        )
    return [*_summary(kinds, quotas, num_workers, len(editors)), *_sentences(notes, len(questions))]


def _answered(
    questions: Sequence[Question], folders: Mapping[str, FinishedPictures], notes: Notes
) -> dict[str, dict[str, tuple[Question, dict[str, Picture]]]]:
    """Kind -> id -> what all editors have a picture for, and where they are."""
    answered: dict[str, dict[str, tuple[Question, dict[str, Picture]]]] = {}
    for question in questions:
        pictures = {name: folder.find(question.id) for name, folder in folders.items()}
        for name, picture in pictures.items():
            if picture is None:
                notes.missing[name].append(question.id)
        there = {name: picture for name, picture in pictures.items() if picture is not None}
        if len(there) == len(folders):
            answered.setdefault(question.kind, {})[question.id] = (question, there)
    if not answered:
        name, missing = max(notes.missing.items(), key=lambda each: len(each[1]))
        raise UserError(
            f"--editor {name}: no item has a picture of every editor; this one lacks "
            f"{len(missing)} of {len(questions)}, such as {file_stem(missing[0])}.png"
        )
    return answered


def _prepared(
    candidates: Mapping[str, Mapping[str, tuple[Question, dict[str, Picture]]]],
    count: int,
    seed: int,
    folder: Path,
    notes: Notes,
) -> dict[str, list[StoredQuestion]]:
    """The items of each kind that the study asks about, their pictures written.

    Raises:
        UserError: not one item has pictures that can be read.
    """
    kinds = {kind: candidates[kind] for kind in in_order(set(candidates))}
    total = sum(min(count, len(items)) for items in kinds.values())

    def written() -> Iterator[tuple[str, StoredQuestion]]:
        for kind, items in kinds.items():
            num_left = count
            for item_id in drawn(list(items), seed):
                if not num_left:
                    break
                try:
                    question = _write(*items[item_id], folder, notes)
                except RowError as error:
                    notes.broken.append(f"{item_id}: {error}")
                    continue
                num_left -= 1
                yield kind, question

    prepared: dict[str, list[StoredQuestion]] = {}
    for kind, question in counted(written(), total, "items"):
        prepared.setdefault(kind, []).append(question)
    if not prepared:
        raise UserError(f"--items: no item's pictures can be read; {notes.broken[0]}")
    return prepared


def _write(
    question: Question, after: Mapping[str, Picture], folder: Path, notes: Notes
) -> StoredQuestion:
    """Encode an item's pictures alike, of one size, without metadata, under random names.

    Raises:
        RowError: one of them cannot be read; nothing is written.
    """
    opened = {name: picture.open() for name, picture in after.items()}
    before = question.before.open()
    scale = min(1.0, MAX_SIDE / max(before.size))
    size = (max(1, round(before.width * scale)), max(1, round(before.height * scale)))
    for name, picture in opened.items():
        stretch = (picture.width / picture.height) / (before.width / before.height)
        notes.num_resized[name] += picture.size != before.size
        notes.num_distorted[name] += not 1 / (1 + _DISTORTED) <= stretch <= 1 + _DISTORTED
    encoded = {name: _encoded(picture, size) for name, picture in opened.items()}
    notes.num_alike += len(set(encoded.values())) < len(encoded)
    return StoredQuestion(
        item=question.id,
        kind=question.kind,
        category=question.group,
        instruction=question.instruction,
        before=_store(_encoded(before, size), folder),
        after={name: _store(content, folder) for name, content in encoded.items()},
    )


def _encoded(picture: PIL.Image.Image, size: tuple[int, int]) -> bytes:
    if picture.size != size:
        picture = picture.resize(size, PIL.Image.Resampling.LANCZOS)
    return encode_webp(picture)["bytes"]


def _store(content: bytes, folder: Path) -> str:
    name = f"{secrets.token_hex(16)}.webp"
    (folder / name).write_bytes(content)
    return name


def _summary(
    kinds: Mapping[str, Sequence[str]], quotas: Mapping[str, int], num_workers: int, k: int
) -> list[str]:
    total = sum(quotas.values())
    lines = [f"{num_workers} workers, {total} questions each, the best of {k} pictures"]
    for kind, ids in kinds.items():
        times = num_workers * quotas[kind] / len(ids)
        lines.append(
            f"{kind}: {len(ids)} items, {quotas[kind]} for each worker, each item seen by "
            f"{times:.3g} of them"
        )
    return lines


def _sentences(notes: Notes, num_items: int) -> list[str]:
    lines = [
        f"left out: {len(missing)} of {num_items} items, for which {name} has no picture "
        f"(the first: {missing[0]})"
        for name, missing in notes.missing.items()
        if missing
    ]
    if notes.broken:
        lines.append(
            f"left out: {len(notes.broken)} items with a picture that cannot be read "
            f"(the first: {notes.broken[0]})"
        )
    for name, number in notes.num_resized.items():
        if number:
            lines.append(
                f"{name}: {number} pictures had not their input's size and were resized to it, "
                f"{notes.num_distorted[name]} of them from other proportions"
            )
    if notes.num_alike:
        lines.append(f"{notes.num_alike} items have the very same picture of two editors")
    return lines

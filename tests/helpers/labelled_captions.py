"""Captions with the categories that a person would offer, of tests/data/category_captions.txt."""

from pathlib import Path

_FILE = Path(__file__).parents[1] / "data" / "category_captions.txt"


def labelled() -> dict[str, list[tuple[str, list[str]]]]:
    """Kind of caption -> its captions, each with its categories."""
    kinds: dict[str, list[tuple[str, list[str]]]] = {}
    for line in _FILE.read_text("utf-8").splitlines():
        if line.startswith("["):
            kind = kinds.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            caption, _, names = line.rpartition(" =")
            kind.append((caption, [name.strip() for name in names.split(",") if name.strip()]))
    return kinds

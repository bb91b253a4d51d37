"""A recipe as YAML with each key explained, in the words of the models' own descriptions."""

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from reasonray.core.recipe import Recipe

WIDTH = 100
_UNLIMITED = 1_000_000


def commented(recipe: Recipe) -> str:
    """A recipe as YAML, complete, each key with its description; `recipe.load` reads it back."""
    return "\n".join(_mapping(recipe, "", explain=True)) + "\n"


def _mapping(section: BaseModel, indent: str, *, explain: bool) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            if explain:
                if not indent:
                    yield ""
                yield from _comment(first_line(type(value)), indent)
            yield f"{indent}{name}:"
            yield from _mapping(value, indent + "  ", explain=explain)
        elif value and isinstance(value, list) and isinstance(value[0], BaseModel):
            if explain:
                yield ""
                yield from _comment(field.description or "", indent)
            yield f"{indent}{name}:"
            for index, item in enumerate(value):
                lines = _mapping(item, indent + "    ", explain=explain and index == 0)
                yield from _item(list(lines), indent)
        else:
            line = f"{indent}{name}: {flow(value)}"
            if len(line) > WIDTH and isinstance(value, str) and (block := _folded(value, indent)):
                line = "\n".join([f"{indent}{name}: >-", *block])
            note = f"  # {field.description}" if explain and field.description else ""
            if len(line + note) <= WIDTH:
                yield line + note
            else:
                yield from _comment(field.description or "", indent)
                yield from line.splitlines()


def _item(lines: list[str], indent: str) -> Iterator[str]:
    """A list's item: a dash in front of its first key, comments above it."""
    first = next(i for i, line in enumerate(lines) if not line.lstrip().startswith("#"))
    yield from (f"{indent}  {line.lstrip()}" for line in lines[:first])
    yield f"{indent}  - {lines[first].lstrip()}"
    yield from lines[first + 1 :]


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _folded(text: str, indent: str) -> list[str]:
    """A long text as YAML's folded block, line breaks read as spaces; none if it is no such."""
    inner = f"{indent}  "
    words = text.split(" ")
    if not all(words) or any(word.split() != [word] for word in words):
        return []
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=inner,
        subsequent_indent=inner,
        break_long_words=False,
        break_on_hyphens=False,
    )


def flow(value: Any) -> str:
    """One value on one line of YAML, in flow style."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    listed = yaml.safe_dump([value], default_flow_style=True, width=_UNLIMITED)
    return listed.strip()[1:-1]


def first_line(section: type[BaseModel]) -> str:
    """The first line of a section's docstring: what the section is about."""
    return (section.__doc__ or "").strip().splitlines()[0]

"""What recipe, command line and record say of themselves, as text: made from the code, never stale.

`python -m reasonray.reference docs` writes `docs/cli.md`, `docs/recipe.md` and `docs/record.md`; a
test compares.
"""

import sys
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import click
import pyarrow as pa
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reasonray.recipe import Recipe, StagesConfig
from reasonray.record import DESCRIPTIONS, REJECTED_SCHEMA

WIDTH = 100
_UNLIMITED = 1_000_000


def pages() -> dict[str, str]:
    """File name -> content of every generated page."""
    return {"cli.md": command_line(), "recipe.md": recipe_keys(), "record.md": record()}


def command_line() -> str:
    """Markdown: every command's help, word for word."""
    from reasonray.cli import cli

    parts = [
        "# Command line",
        "Made from the code by `make docs`. Exit codes: 0 done; 1 a failure, and the same command "
        "continues where it stopped; 2 a mistake in what was asked for.",
    ]
    for context in _contexts(cli, "reasonray"):
        parts += [f"## {context.command_path}", f"```text\n{context.get_help()}\n```"]
    return "\n\n".join(parts) + "\n"


def recipe_keys() -> str:
    """Markdown: every key of a recipe with its type, default and meaning."""
    lines = [
        "# Recipe",
        "",
        "Made from the code by `make docs`. A recipe is one YAML file; what it does not say is as "
        "below. `reasonray recipe show NAME` prints a whole one with comments, `--set a.b=c` "
        "changes one key.",
    ]
    for path, section in _sections(Recipe, ""):
        title = f"## `{path}`" if path else "## Top level"
        lines += ["", title, "", _first_line(section), ""]
        lines += ["| key | type | default | |", "|---|---|---|---|"]
        for name, field in section.model_fields.items():
            if _model_of(field):
                continue
            default = "required" if field.is_required() else f"`{_flow(field.get_default())}`"
            kind = _type_name(field).replace("|", "\\|")
            lines.append(f"| `{name}` | {kind} | {default} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def record() -> str:
    """Markdown: every field of a record, and every reason for which a row is rejected."""
    prose = (Path(__file__).parent / "templates/record.md").read_text(encoding="utf-8")
    return prose.format(fields=_fields(REJECTED_SCHEMA), rejections=_rejections())


def commented(recipe: Recipe) -> str:
    """A recipe as YAML, complete, each key with its description; `recipe.load` reads it back."""
    return "\n".join(_mapping(recipe, "", explain=True)) + "\n"


def _fields(schema: pa.Schema) -> str:
    lines = ["| field | type | |", "|---|---|---|"]
    for field in schema:
        lines.append(f"| `{field.name}` | {_arrow_name(field.type)} | {DESCRIPTIONS[field.name]} |")
        if field.name == "scores":
            for score in field.type:
                name = f"scores.{score.name}"
                lines.append(f"| `{name}` | {_arrow_name(score.type)} | {DESCRIPTIONS[name]} |")
    return "\n".join(lines)


def _arrow_name(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "struct: " + ", ".join(field.name for field in kind)
    if pa.types.is_fixed_size_list(kind):
        return f"list of {kind.list_size} {kind.value_type}"
    if pa.types.is_list(kind):
        return f"list of {kind.value_type}"
    return str(kind)


def _rejections() -> str:
    lines = ["| stage | reason | |", "|---|---|---|"]
    for name in ("load", *StagesConfig.model_fields):
        stage = getattr(import_module(f"reasonray.stages.{name}"), name.capitalize())
        lines += [f"| {name} | `{code}` | {text} |" for code, text in stage.rejects.items()]
    return "\n".join(lines)


def _mapping(section: BaseModel, indent: str, *, explain: bool) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            if explain:
                if not indent:
                    yield ""
                yield from _comment(_first_line(type(value)), indent)
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
            line = f"{indent}{name}: {_flow(value)}"
            note = f"  # {field.description}" if explain and field.description else ""
            if len(line + note) <= WIDTH:
                yield line + note
            else:
                yield from _comment(field.description or "", indent)
                yield line


def _item(lines: list[str], indent: str) -> Iterator[str]:
    """A list's item: a dash in front of its first key, comments above it."""
    first = next(i for i, line in enumerate(lines) if not line.lstrip().startswith("#"))
    yield from (f"{indent}  {line.lstrip()}" for line in lines[:first])
    yield f"{indent}  - {lines[first].lstrip()}"
    yield from lines[first + 1 :]


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _flow(value: Any) -> str:
    """One value on one line of YAML."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    listed = yaml.safe_dump([value], default_flow_style=True, width=_UNLIMITED)
    return listed.strip()[1:-1]


def _contexts(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """Of a command and all below it, with the settings that they have when they are called."""
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=88, **command.context_settings
    )
    yield context
    if isinstance(command, click.Group):
        for inner, below in command.commands.items():
            yield from _contexts(below, inner, context)


def _sections(section: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, section
    for name, field in section.model_fields.items():
        inner = _model_of(field)
        if inner:
            listed = "[]" if "list" in str(field.annotation) else ""
            yield from _sections(inner, f"{path}.{name}{listed}".lstrip("."))


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _type_name(field: FieldInfo) -> str:
    kinds: tuple[Any, ...] = (field.annotation,)
    if get_origin(field.annotation) in (Union, UnionType):
        kinds = get_args(field.annotation)
    names, rules = [], list(field.metadata)
    for kind in kinds:
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
            rules += [rule for note in notes for rule in note.metadata]
        is_plain = isinstance(kind, type) and not get_args(kind)
        names.append(kind.__name__ if is_plain else str(kind).replace("typing.", ""))
    limits = [f"{sign} {limit}" for sign, limit in _limits(rules)]
    return ", ".join([" | ".join(names).replace("NoneType", "None"), *limits])


def _limits(rules: Iterable[Any]) -> Iterator[tuple[str, float]]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for rule in rules:
        for attribute, sign in signs.items():
            if (limit := getattr(rule, attribute, None)) is not None:
                yield sign, limit


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for file_name, page in pages().items():
        (folder / file_name).write_text(page, encoding="utf-8")

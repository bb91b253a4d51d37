"""What recipe, command line and record say of themselves, as text: made from the code, never stale.

`python -m reasonray.cli.reference docs` writes `docs/cli.md`, `docs/recipe.md` and
`docs/record.md`; a test compares.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import click
import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reasonray.core.commented import first_line, flow
from reasonray.core.recipe import Recipe
from reasonray.core.record import ACCEPTED_SCHEMA, DESCRIPTIONS, PLAN_SCHEMA, REJECTED_SCHEMA
from reasonray.stages import STAGES, stage_class


def pages() -> dict[str, str]:
    """File name -> content of every generated page."""
    return {"cli.md": command_line(), "recipe.md": recipe_keys(), "record.md": record()}


def command_line() -> str:
    """Markdown: every command's help, word for word."""
    from reasonray.cli.main import cli

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
        lines += ["", title, "", first_line(section), ""]
        lines += ["| key | type | default | |", "|---|---|---|---|"]
        for name, field in section.model_fields.items():
            if _model_of(field) and field.get_default() is not None:
                continue
            default = "required" if field.is_required() else f"`{flow(field.get_default())}`"
            kind = _type_name(field).replace("|", "\\|")
            lines.append(f"| `{name}` | {kind} | {default} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def record() -> str:
    """Markdown: every field of a record, and every reason for which a row is rejected."""
    prose = (Path(__file__).parent / "record.md").read_text(encoding="utf-8")
    return prose.format(fields=_fields(REJECTED_SCHEMA), rejections=_rejections())


def _fields(schema: pa.Schema) -> str:
    lines = ["| field | type | written by | |", "|---|---|---|---|"]
    for field in schema:
        scores = field.type if field.name == "scores" else ()
        inner = [(f"scores.{score.name}", score.type) for score in scores]
        for name, kind in [(field.name, field.type), *inner]:
            lines.append(
                f"| `{name}` | {_arrow_name(kind)} | {_writers(name)} | {DESCRIPTIONS[name]} |"
            )
    return "\n".join(lines)


def _writers(field: str) -> str:
    rejection = set(REJECTED_SCHEMA.names).difference(ACCEPTED_SCHEMA.names)
    names = ["the plan"] if field in PLAN_SCHEMA.names and field not in rejection else []
    for name in STAGES:
        written = {**stage_class(name).writes, **stage_class(name).may_write}
        if field in written or any(each.startswith(f"{field}.") for each in written):
            names.append(name)
    return ", ".join(names) or "any stage"


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
    for name in STAGES:
        rejects = stage_class(name).rejects
        lines += [f"| {name} | `{code}` | {text} |" for code, text in rejects.items()]
    return "\n".join(lines)


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
        if is_plain and issubclass(kind, BaseModel):
            names.append("section")
            continue
        names.append(kind.__name__ if is_plain else str(kind).replace("typing.", ""))
    limits = [f"{sign} {limit}" for sign, limit in _limits(rules)]
    return ", ".join([" | ".join(names).replace("NoneType", "None"), *limits])


def _limits(rules: Iterable[Any]) -> Iterator[tuple[str, float]]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for rule in rules:
        for attribute, sign in signs.items():
            if (limit := getattr(rule, attribute, None)) is not None:
                yield sign, limit


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for file_name, page in pages().items():
        (folder / file_name).write_text(page, encoding="utf-8")

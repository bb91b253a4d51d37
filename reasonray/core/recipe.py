"""The one configuration of a run: pydantic models, read from YAML, checked before any work.

Recipes that ship are `recipes/*.yaml`. `load` gives a checked `Recipe` or one `UserError` line
that names the key and the nearest valid one.
"""

import difflib
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import UserError
from reasonray.core.evaluation_sections import EvaluationConfig
from reasonray.core.sections import (
    ASKING,
    Config,
    ImagesConfig,
    LanguageModelConfig,
    OutputConfig,
    PoolConfig,
    SourceConfig,
    StagesConfig,
)

RECIPES = Path(__file__).parents[1] / "recipes"

ROWS_A_CALL = 8
"""Of a pool that only asks a server. One by one they would cost Ray's driver, which sees each batch
pass, several times what all else does: eleven rows a second were the most on two cores."""

MAX_PLACES = 3
"""Sections that a message names for a key that stands in none of those where it was put."""


ROOM = {
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "cpu_offload_gb",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enforce_eager",
}
"""Of vLLM's engine, what is changed when it does not fit, and changes no reply."""


class Recipe(Config):
    """Everything that decides a run's result, and how it is spread over a machine or cluster."""

    seed: int = Field(0, ge=0, description="Every sample's randomness follows from it and its id")
    parts: list[Literal["I", "II", "III"]] = Field(
        ["I", "II", "III"],
        min_length=1,
        description="Which parts are made; what only others need is not loaded",
    )
    variations: int = Field(
        1, ge=1, description="Samples made of each input, each with an id and seed of its own"
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="Inputs at most, over all sources and parts: a sample that is drawn by the "
        "seed, of each source and part its share; a larger limit adds to a smaller one's inputs; "
        "null: all",
    )
    accepted: int | None = Field(
        None,
        ge=1,
        description="Samples after which the run stops: inputs are taken in the order of `limit`'s "
        "samples, and the output ends with the one that gave this many; null: all inputs are done",
    )
    sources: list[SourceConfig] = Field([], description="Inputs; --source replaces them")
    images: ImagesConfig = ImagesConfig()
    stages: StagesConfig = StagesConfig()
    language_model: LanguageModelConfig = LanguageModelConfig()
    pools: list[PoolConfig] = Field(min_length=1, description="Who shares an actor")
    output: OutputConfig = OutputConfig()
    editor: EditorConfig = EditorConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _pools_cover_the_stages(self) -> "Recipe":
        named = [name for pool in self.pools for name in pool.stages]
        order = ["load", *StagesConfig.model_fields]
        if named != order:
            raise ValueError(f"pools: stages must be, over all pools in order, {', '.join(order)}")
        for pool in self.pools:
            if pool.max_actors < pool.min_actors:
                raise ValueError(
                    f"pools: max_actors {pool.max_actors} is below min_actors {pool.min_actors}"
                )
        return self

    @model_validator(mode="after")
    def _an_engine_has_the_gpus_of_its_actor(self) -> "Recipe":
        num_gpus = self.language_model.tensor_parallel_size
        for index, pool in enumerate(self.pools):
            asks = not ASKING.keys().isdisjoint(pool.stages)
            if self.language_model.backend != "vllm" or not asks or pool.num_gpus < 1:
                continue
            if pool.num_gpus != num_gpus:
                raise ValueError(
                    f"pools.{index}.num_gpus is {pool.num_gpus:g}, language_model."
                    f"tensor_parallel_size {num_gpus}: vLLM's engine takes the GPUs of its "
                    "actor; give both the same number"
                )
        return self

    @model_validator(mode="after")
    def _a_run_s_own_server_has_no_address_yet(self) -> "Recipe":
        model = self.language_model
        if model.backend == "serve" and model.server.base_url is not None:
            raise ValueError(
                "language_model.server.base_url: the backend serve starts a server of its own; "
                "leave it out, or take the backend openai"
            )
        return self

    def num_calls(self, pool: PoolConfig) -> int:
        """Batches that one actor of a pool has in work at once.

        Where all its stages ask a server there are twice as many rows in work as the server bears,
        `ROWS_A_CALL` a batch: while some of a batch wait for its slowest reply, others are asked.
        """
        asks = self.language_model.has_server and set(pool.stages) <= ASKING.keys()
        if not asks:
            return 1
        return max(2, math.ceil(2 * self.language_model.server.max_concurrency / ROWS_A_CALL))

    def content(self) -> dict[str, Any]:
        """Everything that decides which rows a run makes and what is in them.

        Pools, the output's layout, the editor and its evaluation, how a server is asked, how many
        engines there are, where and with how much room do not: a run may be resumed with others.
        Nor do the limits of replies, which a reply either reaches and fails or not.
        """
        layout = OutputConfig.model_fields.keys() - {"edited_format"}
        return self.model_dump(
            mode="json",
            exclude={
                "pools": True,
                "output": layout,
                "editor": True,
                "evaluation": True,
                "language_model": {
                    "server": True,
                    "max_engines": True,
                    "label_selector": True,
                    "engine": ROOM,
                },
                "stages": {stage: {"max_tokens"} for stage in ASKING},
            },
        )

    def hash(self) -> str:
        """16 hexadecimal digits of everything that can change a row's content."""
        content = self.content()
        del content["sources"], content["limit"], content["accepted"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def load(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    sources: Sequence[str | SourceConfig] | None = None,
    parts: Sequence[str] | None = None,
    limit: int | None = None,
    accepted: int | None = None,
) -> Recipe:
    """Read a recipe, change what was asked for, and check the whole.

    Args:
        recipe: a shipped recipe's name, a YAML file's path, or a recipe to start from.
        overrides: `a.b=c` settings, values in YAML; `pools.0.batch_size=4` reaches into lists,
            `sources.0.split=val` into those of the next argument.
        sources: replace the recipe's; `FORMAT=PATH` or configurations. None or empty: its own.
        parts: replace the recipe's. None or empty: its own.
        limit, accepted: replace the recipe's. None: its own.

    Raises:
        UserError: no such recipe, not YAML, or an invalid key or value; one line.
    """
    if isinstance(recipe, Recipe):
        # Not the defaults: whether there is a section `editor` at all is asked for later.
        content, name = recipe.model_dump(mode="json", exclude_unset=True), "recipe"
    else:
        content, name = _read(recipe), str(recipe)
    if sources:
        content["sources"] = [_source(each) for each in sources]
    for override in overrides:
        _override(content, override)
    if parts:
        content["parts"] = list(parts)
    if limit is not None:
        content["limit"] = limit
    if accepted is not None:
        content["accepted"] = accepted
    return parse(content, name=name)


def _read(recipe: str | Path) -> dict[str, Any]:
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{recipe}.yaml"
        if not path.exists():
            names = sorted(p.stem for p in RECIPES.glob("*.yaml"))
            raise UserError(
                f"recipe {recipe}: not one of {', '.join(names)}{nearest(str(recipe), names)}; "
                "for a file of your own give a path that ends in .yaml"
            )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"recipe {path}: not UTF-8 text (byte {error.start})") from error
    except yaml.YAMLError as error:
        raise UserError(f"recipe {path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {path}: expected keys and values at the top level")
    return content


def _source(source: str | SourceConfig) -> dict[str, Any]:
    if isinstance(source, SourceConfig):
        return source.model_dump(mode="json")
    kind, _, path = source.partition("=")
    if not (kind and path):
        raise UserError(f"--source {source}: expected FORMAT=PATH, e.g. v3det=/data/V3Det")
    formats = get_args(SourceConfig.model_fields["format"].annotation)
    if kind not in formats:
        raise UserError(f"--source {source}: FORMAT {kind}: unknown{nearest(kind, formats)}")
    return {"format": kind, "path": path}


def parse(content: dict[str, Any], *, name: str) -> Recipe:
    """Check a recipe's content; `name` stands in front of every message.

    Raises:
        UserError: one line that names the key, the rule and the nearest valid key.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            *section, key = map(str, first["loc"])
            message = f"unknown key{_elsewhere(section, key) or nearest(key, _keys_at(section))}"
        elif first["type"] == "model_type":
            keys = ", ".join(_keys_at(first["loc"]))
            message = f"is a section with the keys {keys} (got {first['input']!r})"
        else:
            message = f"{first['msg']} (got {first['input']!r})"
            if first["type"] == "value_error":
                message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{name}: {where + ': ' if where else ''}{message}") from error


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override}: expected KEY=VALUE, e.g. stages.paint.guidance_scale=5")
    node: Any = content
    steps = key.split(".")
    for step in steps[:-1]:
        if isinstance(node, list):
            if not step.isdigit() or int(step) >= len(node):
                raise UserError(f"--set {key}: {step} is not an index below {len(node)}")
            node = node[int(step)]
        else:
            node = node.setdefault(step, {})
        if not isinstance(node, dict | list):
            raise UserError(f"--set {key}: {step} is a value, not a section")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not YAML") from error
    if isinstance(node, list):
        if not steps[-1].isdigit() or int(steps[-1]) >= len(node):
            raise UserError(f"--set {key}: {steps[-1]} is not an index below {len(node)}")
        node[int(steps[-1])] = value
    else:
        node[steps[-1]] = value


def _keys_at(location: Sequence[int | str]) -> list[str]:
    """The valid keys of the section at a pydantic location."""
    section: type[BaseModel] = Recipe
    for step in map(str, location):
        if not step.isdigit():
            section = _section(section.model_fields[step].annotation) or section
    return list(section.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, alone, in a list or where null stands for none."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _elsewhere(section: Sequence[str], key: str) -> str:
    """The end of a message about a key that is valid in other sections; names the closest ones."""

    def shared(place: Sequence[str]) -> int:
        steps = zip(section, place, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], steps))

    places = [place for place in _places(Recipe, ()) if place[-1] == key]
    closest = max(map(shared, places), default=0)
    names = [".".join(place) for place in places if shared(place) == closest]
    return f" (did you mean {' or '.join(names)}?)" if 0 < len(names) <= MAX_PLACES else ""


def _places(section: type[BaseModel], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The steps to each key of a section and of those inside it; N for a list's index."""
    for name, field in section.model_fields.items():
        yield (*above, name)
        if (inner := _section(field.annotation)) is not None:
            index = ("N",) if get_origin(field.annotation) is list else ()
            yield from _places(inner, (*above, name, *index))


def nearest(word: str, valid: Sequence[str]) -> str:
    """The end of a message about an unknown word: the valid one that it is close to, or all."""
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else f" (valid: {', '.join(valid)})"


def differing_keys(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ, leaves only."""
    keys: list[str] = []
    for key in sorted({*ours, *theirs}):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            keys += differing_keys(mine, other, f"{prefix}{key}.")
        elif mine != other:
            keys.append(f"{prefix}{key}")
    return keys

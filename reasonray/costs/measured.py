"""What a finished run tells of the next one: its manifest's timings, counts and sizes on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from reasonray.core.errors import UserError
from reasonray.core.place import Place, reached
from reasonray.core.recipe import Recipe, parse
from reasonray.core.record import PARTS
from reasonray.core.sections import ASKING, PoolConfig
from reasonray.costs.work import model_of, visits
from reasonray.dataset.manifest import KINDS, Manifest
from reasonray.dataset.reading import shards


@dataclass(frozen=True)
class Timing:
    """Of one stage in the run that was measured.

    Attributes:
        seconds: of an actor, for a row that the stage worked on, with its share of what the actor
            did beside its stages.
        num_gpus: of that actor.
    """

    seconds: float
    num_gpus: float


@dataclass(frozen=True)
class Measured:
    """A run's figures, as far as they hold for a recipe.

    Attributes:
        path: of the manifest.
        shares: part -> its share of the inputs.
        accepted: part -> the fraction of its inputs that became samples.
        visits: stage -> the fraction that it worked on of the rows that it would have without
            rejections.
        timings: stage -> what was measured, where its settings are the recipe's.
        row_bytes: on disk for each input; None where the shards are not beside the manifest.
        ignored: stages whose settings differ.
    """

    path: Place
    shares: dict[str, float]
    accepted: dict[str, float]
    visits: dict[str, float]
    timings: dict[str, Timing]
    row_bytes: float | None
    ignored: list[str]


def read(path: Place, recipe: Recipe) -> Measured:
    """Read a manifest for the plan of a recipe.

    Raises:
        UserError: it is no manifest, or of a run with other models throughout.
    """
    if path.is_dir():
        path = path / "manifest.json"
    try:
        with reached(path, "--measured"):
            manifest = Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(
            f"--measured {path}: cannot be read ({error.strerror}); give the manifest.json that "
            "a finished run has left in its output"
        ) from error
    except (ValueError, ValidationError) as error:
        raise UserError(
            f"--measured {path}: not a manifest of reasonray; give the manifest.json that a "
            "finished run has left in its output"
        ) from error
    then = parse(manifest.recipe, name=f"--measured {path}")
    if not manifest.inputs:
        raise UserError(f"--measured {path}: its run had no inputs")
    timings: dict[str, Timing] = {}
    ignored: list[str] = []
    for name, timing in manifest.stages.items():
        if timing.rows and _settings(name, then) == _settings(name, recipe):
            gpus = pool_of(name, then).num_gpus
            seconds = timing.seconds * _beside(name, manifest, then) / timing.rows
            timings[name] = Timing(seconds, gpus)
        elif timing.rows:
            ignored.append(name)
    if not any(model_of(name, recipe) for name in timings):
        raise UserError(
            f"--measured {path}: its run had other models or settings than this recipe in every "
            "stage; measure a small run of this one: reasonray generate … --limit 100"
        )
    shares = {part: counts.inputs / manifest.inputs for part, counts in manifest.parts.items()}
    due = {name: manifest.inputs * visits(name, shares) for name in manifest.stages}
    return Measured(
        path=path,
        shares=shares,
        accepted={part: each.accepted / each.inputs for part, each in manifest.parts.items()},
        visits={name: t.rows / due[name] for name, t in manifest.stages.items() if due[name]},
        timings=timings,
        row_bytes=_row_bytes(path.parent, manifest),
        ignored=ignored,
    )


def pool_of(stage: str, recipe: Recipe) -> PoolConfig:
    """The pool that a stage is in."""
    return next(pool for pool in recipe.pools if stage in pool.stages)


def _beside(stage: str, manifest: Manifest, recipe: Recipe) -> float:
    """How much longer its pool's processes had rows in hand than all of their stages worked, >= 1.

    Where calls wait side by side, how many did is not known: 1.
    """
    for name, time in manifest.pools.items():
        stages = name.split("+")
        if stage in stages and recipe.num_calls(pool_of(stage, recipe)) == 1:
            worked = sum(
                manifest.stages[each].seconds for each in stages if each in manifest.stages
            )
            return max(1.0, time.busy_seconds / worked) if worked else 1.0
    return 1.0


def restricted(shares: dict[str, float], parts: Sequence[str]) -> dict[str, float]:
    """The shares of some parts alone, which add up to one again; even where none is known."""
    known = {part: shares.get(part, 0.0) for part in PARTS if part in parts}
    total = sum(known.values())
    return {part: value / total if total else 1 / len(known) for part, value in known.items()}


def _settings(stage: str, recipe: Recipe) -> object:
    section = getattr(recipe.stages, stage, recipe.images).model_dump()
    return section, recipe.language_model.model if stage in ASKING else None


def _row_bytes(output: Place, manifest: Manifest) -> float | None:
    sizes = []
    for kind in KINDS:
        for path in shards(output, manifest, kind):
            if not path.exists():
                return None
            sizes.append(path.stat().st_size)
    return sum(sizes) / manifest.inputs if sizes else None

"""What a user should know of a run before it starts: said then, and kept in what it leaves."""

import json
from collections.abc import Collection, Sequence

from reasonray.core.place import Place
from reasonray.core.recipe import Recipe
from reasonray.core.sections import ASKING, ModelConfig
from reasonray.core.writing import write_file
from reasonray.generation.workspace import Workspace
from reasonray.prompts.english import is_english
from reasonray.stages import needed

TINY = "package:reasonray/mini/"
"""How the names of the models begin that know the mini world alone."""

_FILE = "notices.json"

MAX_CHECKED_CAPTIONS = 20_000
"""The first so many of a plan, which takes two seconds."""


def write_notices(folder: Place, notices: list[str]) -> None:
    """Keep them with a plan until the output is complete; its manifest has them then."""
    write_file(folder / _FILE, json.dumps(notices, indent=2))


def read_notices(workspace: Workspace) -> list[str]:
    """What `write_notices` has kept; nothing where there is no plan."""
    folder = workspace.plan_folder
    notices: list[str] = json.loads((folder / _FILE).read_bytes()) if folder is not None else []
    return notices


def tiny_models(recipe: Recipe, parts: Collection[str]) -> list[str]:
    """A sentence where models of the mini world are to work on other pictures; else nothing.

    Args:
        recipe: its sources, and the models of the stages that have work.
        parts: that have rows.
    """
    if all(source.format == "mini" for source in recipe.sources):
        return []
    pools = needed(recipe, parts).pools
    stages = [name for pool in pools for name in pool.stages]
    names = [name for name in stages if _model(recipe, name).startswith(TINY)]
    if not names:
        return []
    return [
        f"the models of {', '.join(names)} are the tiny ones that ship with reasonray: they know "
        "the drawn scenes of its mini world and no photographs, so take names and edits for a "
        "trial of the pipeline; the recipes paper and current have models for photographs"
    ]


def other_languages(captions: Sequence[str]) -> list[str]:
    """A sentence where some of the sources' captions will be rejected as not English."""
    foreign = [caption for caption in captions if not is_english(caption)]
    if not foreign:
        return []
    return [
        f"{len(foreign)} of {len(captions)} captions looked at are not English, such as "
        f"{foreign[0][:80]!r}: captions must be English, and such rows are rejected as not_english"
    ]


def _model(recipe: Recipe, stage: str) -> str:
    if stage in ASKING:
        return recipe.language_model.model.name
    model = getattr(getattr(recipe.stages, stage, None), "model", None)
    return model.name if isinstance(model, ModelConfig) else ""

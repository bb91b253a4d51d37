"""The pipeline's steps, one file each; pure classes that know nothing of Ray.

A stage's file is imported for its declarations alone, too: what its models need is imported when
the stage is made.
"""

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from reasonray.core.sections import ASKING

if TYPE_CHECKING:
    from reasonray.core.recipe import Recipe
    from reasonray.stages.stage import Stage

STAGES: Mapping[str, str] = {
    "load": "reasonray.stages.load:Load",
    "divergence": "reasonray.stages.divergence:Divergence",
    "rewrite": "reasonray.stages.rewrite:Rewrite",
    "select": "reasonray.stages.select:Select",
    "caption": "reasonray.stages.caption:Caption",
    "categories": "reasonray.stages.categories:Categories",
    "ground": "reasonray.stages.ground:Ground",
    "propose": "reasonray.stages.propose:Propose",
    "paint": "reasonray.stages.paint:Paint",
    "quality": "reasonray.stages.quality:Quality",
}
"""Name -> class, in the pipeline's order."""


def stage_class(name: str) -> type["Stage"]:
    """The class of a stage, with what it declares; no model's library is imported."""
    module, _, attribute = STAGES[name].partition(":")
    return cast("type[Stage]", getattr(import_module(module), attribute))


def needed(recipe: "Recipe", parts: Collection[str]) -> "Recipe":
    """The recipe with only those stages in its pools that have work on these parts.

    Pools of which nothing is left go, too: no model is loaded, no GPU held for them.
    """
    pools = []
    for pool in recipe.pools:
        names = [name for name in pool.stages if not set(stage_class(name).parts).isdisjoint(parts)]
        if names:
            pools.append(pool.model_copy(update={"stages": names}))
    return recipe.model_copy(update={"pools": pools})


def build(name: str, recipe: "Recipe", divergence_threshold: float | None = None) -> "Stage":
    """Load the stage of a name; only its own libraries are imported.

    Args:
        name: as in the recipe's pools.
        recipe: its section, seed, language model and format of painted pictures are used.
        divergence_threshold: what `divergence.worst_fraction` came to over all pairs.
    """
    settings: dict[str, Any] = {"seed": recipe.seed}
    if name in ASKING:
        settings["language_model"] = recipe.language_model
    if name == "divergence":
        settings["threshold"] = divergence_threshold
    if name == "quality":
        settings["edited_format"] = recipe.output.edited_format
    kind: Any = stage_class(name)
    stage: Stage = kind(getattr(recipe.stages, name, recipe.images), **settings)
    return stage

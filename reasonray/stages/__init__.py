"""The pipeline's steps, one file each; pure classes that know nothing of Ray."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from reasonray.core.record import PARTS, Part

if TYPE_CHECKING:
    from reasonray.core.recipe import Recipe
    from reasonray.stages.stage import Stage

SERVED: Mapping[str, tuple[Part, ...]] = {
    "load": PARTS,
    "divergence": ("I",),
    "rewrite": ("I",),
    "select": ("I",),
    "caption": ("II", "III"),
    "categories": ("II", "III"),
    "ground": ("II", "III"),
    "propose": ("II", "III"),
    "paint": ("II", "III"),
    "quality": PARTS,
}
"""Each stage's `parts`, known without importing its libraries."""


def needed(recipe: "Recipe", parts: Collection[str]) -> "Recipe":
    """The recipe with only those stages in its pools that have work on these parts.

    Pools of which nothing is left go, too: no model is loaded, no GPU held for them.
    """
    pools = []
    for pool in recipe.pools:
        names = [name for name in pool.stages if not set(SERVED[name]).isdisjoint(parts)]
        if names:
            pools.append(pool.model_copy(update={"stages": names}))
    return recipe.model_copy(update={"pools": pools})


def build(name: str, recipe: "Recipe", divergence_threshold: float | None = None) -> "Stage":
    """Load the stage of a name; only its own libraries are imported.

    Args:
        name: as in the recipe's pools.
        recipe: its section, seed and language model are used.
        divergence_threshold: what `divergence.worst_fraction` came to over all pairs.
    """
    sections, seed = recipe.stages, recipe.seed
    match name:
        case "load":
            from reasonray.stages.load import Load

            return Load(recipe.images, seed=seed)
        case "divergence":
            from reasonray.stages.divergence import Divergence

            return Divergence(sections.divergence, threshold=divergence_threshold, seed=seed)
        case "rewrite":
            from reasonray.stages.rewrite import Rewrite

            return Rewrite(sections.rewrite, recipe.language_model, seed=seed)
        case "select":
            from reasonray.stages.select import Select

            return Select(sections.select, recipe.language_model, seed=seed)
        case "caption":
            from reasonray.stages.caption import Caption

            return Caption(sections.caption, seed=seed)
        case "categories":
            from reasonray.stages.categories import Categories

            return Categories(sections.categories, seed=seed)
        case "ground":
            from reasonray.stages.ground import Ground

            return Ground(sections.ground, seed=seed)
        case "propose":
            from reasonray.stages.propose import Propose

            return Propose(sections.propose, recipe.language_model, seed=seed)
        case "paint":
            from reasonray.stages.paint import Paint

            return Paint(sections.paint, seed=seed)
        case "quality":
            from reasonray.stages.quality import Quality

            return Quality(sections.quality, seed=seed)
    raise ValueError(f"no stage is called {name}")

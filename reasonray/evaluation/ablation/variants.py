"""What the ablation compares: five editors that differ in their condition and their data alone."""

from dataclasses import dataclass

from reasonray.core.recipe import Recipe
from reasonray.core.record import PARTS, Part
from reasonray.dataset.manifest import Manifest


@dataclass(frozen=True)
class Variant:
    """One of the editors, as a call of `editor.job.train` makes it.

    Attributes:
        name: in tables and folders.
        label: below a chart; its lines are parted by newlines.
        about: what it is, in a sentence.
        parts: of the dataset that it is trained on; the baseline's training reads them for nothing.
        settings: `a.b=c`, what it changes in the recipe.
    """

    name: str
    label: str
    about: str
    parts: tuple[Part, ...]
    settings: tuple[str, ...]


BASELINE, UNTUNED = "baseline", "mllm"
ALL_PARTS = "+".join(PARTS)

DATA = (BASELINE, "I", "I+II", ALL_PARTS)
"""Figure 15a, in its order."""
MODEL = (BASELINE, UNTUNED, ALL_PARTS)
"""Figure 15b, in its order."""


def variants(recipe: Recipe, manifest: Manifest) -> list[Variant]:
    """All of them, as they stand in tables.

    The baseline is the recipe's base as it comes, under its own text encoder: InstructPix2Pix. The
    multimodal model without fine-tuning reads picture and instruction in the text encoder's place,
    and the UNet is still the base's. Between the two stands the connector, without which the states
    have another width than the UNet takes: it alone is trained, in as many alignment steps as the
    others', to give what the text encoder gives for the same sentence, on the direct instructions
    of Part I, which are InstructPix2Pix's own. So nothing that the dataset adds has been seen: no
    reasoning instruction and no picture that was painted. Where the recipe has no alignment, the
    connector is as it was drawn. The other three are the whole training, on more and more parts.

    All take as many steps, whatever the size of their data: the recipe's `num_steps`, or what its
    `num_epochs` come to on all parts; and none stops early.

    Args:
        recipe: that all are trained by.
        manifest: of the dataset.
    """
    config = recipe.editor
    accepted = sum(manifest.parts[part].accepted for part in PARTS)
    num_steps = config.steps(accepted * (1 - config.validation_fraction))
    shared = ("editor.condition=mllm", "editor.early_stop=null")
    untuned = (*shared, "editor.num_steps=0", "editor.reasoning_ratio=0")
    tuned = (*shared, f"editor.num_steps={num_steps}")
    baseline = (
        "editor.condition=text",
        "editor.num_steps=0",
        "editor.early_stop=null",
        # Nothing is trained or held out, so that a cache would be computed for nothing.
        "editor.features=online",
        "editor.validation_fraction=0",
    )
    trained = [
        Variant(
            "+".join(parts),
            f"fine-tuned,\nPart{'s' if len(parts) > 1 else ''} {', '.join(parts)}",
            f"UNet and connector fine-tuned ({num_steps} steps) on "
            f"part{'s' if len(parts) > 1 else ''} {', '.join(parts)}",
            parts,
            tuned,
        )
        for parts in (PARTS[:count] for count in range(1, len(PARTS) + 1))
    ]
    return [
        Variant(
            BASELINE,
            "InstructPix2Pix",
            f"{config.base.name} as it comes, under its own text encoder",
            PARTS[:1],
            baseline,
        ),
        Variant(
            UNTUNED,
            "MLLM, not\nfine-tuned",
            "the multimodal model in the text encoder's place, the UNet as it comes; the connector "
            f"aligned with the text encoder ({config.alignment_steps} steps) on part I's direct "
            "instructions",
            PARTS[:1],
            untuned,
        ),
        *trained,
    ]

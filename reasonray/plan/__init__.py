"""What a recipe will cost, counted before it is run: `reasonray plan`.

FLOPs come of the real modules' forward passes on the meta device (`architectures`, `counting`),
seconds of them at a stated utilisation or of a finished run (`work`, `measured`), pools of the
seconds (`balance`, `generation`), the editor's figures likewise (`training`). Every assumption is a
constant beside its use, and is printed (`table`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reasonray.plan.architectures import UnknownModelError
from reasonray.plan.generation import GenerationPlan, plan_generation
from reasonray.plan.hardware import KINDS, hardware
from reasonray.plan.measured import Measured, read
from reasonray.plan.training import TrainingPlan, plan_training
from reasonray.recipe import Recipe, load

UTILISATION = 0.2
"""Part of a GPU's peak that diffusers reaches without compiling. 50 steps of Stable Diffusion 1.5
and its VAE are 83 TFLOP; an A100 takes 1.6 s for one picture, 0.17 of its peak
(github.com/fal-ai/stable-diffusion-benchmarks), and a batch does somewhat better."""


@dataclass(frozen=True)
class Plan:
    """All that is printed.

    Attributes:
        name: of the recipe.
        recipe: as planned.
        generation, training: what it makes; no training where the recipe has none, or the reason
            why it cannot be planned.
        measured: a run whose figures were taken.
        num_gpus: on the cluster; cores where there are none.
        utilisation: of the peak, where nothing was measured.
        price: dollars an hour of one GPU or core; None: the table's.
    """

    name: str
    recipe: Recipe
    generation: GenerationPlan
    training: TrainingPlan | str | None
    measured: Measured | None
    num_gpus: int
    utilisation: float
    price: float | None


def plan(
    recipe: str | Path,
    *,
    count: int,
    gpu: str,
    num_gpus: int,
    utilisation: float = UTILISATION,
    price: float | None = None,
    measured: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Plan:
    """Count what a recipe costs.

    Args:
        recipe: a shipped recipe's name or a YAML file.
        count: inputs, of all parts together.
        gpu: one of `hardware.KINDS`.
        num_gpus: of the cluster; cores for `cpu`.
        utilisation: part of the peak that is reached, 0..1.
        price: dollars an hour of one; None: the table's.
        measured: a finished run's manifest, or its folder.
        overrides: `a.b=c` settings of the recipe.

    Raises:
        UserError: one of these cannot be used.
    """
    machine, checked = hardware(gpu), load(recipe, overrides)
    run = None if measured is None else read(Path(measured), checked)
    generation = plan_generation(checked, count, machine, num_gpus, utilisation, run)
    training: TrainingPlan | str | None = None
    if "editor" in checked.model_fields_set:
        trainer = machine if checked.editor.num_gpus else KINDS["cpu"]
        try:
            training = plan_training(
                checked.editor,
                generation.accepted,
                trainer,
                num_gpus,
                utilisation,
                trainer.price if price is None else price,
            )
        except UnknownModelError as error:
            training = str(error)
    return Plan(
        name=str(recipe),
        recipe=checked,
        generation=generation,
        training=training,
        measured=run,
        num_gpus=num_gpus,
        utilisation=utilisation,
        price=price,
    )

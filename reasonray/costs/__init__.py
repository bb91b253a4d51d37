"""What a recipe will cost, counted before it is run: `reasonray plan`.

FLOPs come of the real modules' forward passes on the meta device (`architectures`, `counting`),
seconds of them at a stated utilisation or of a finished run (`work`, `measured`), pools of the
seconds (`balance`, `generation`), the editor's figures likewise (`training`, `schedule`, `memory`).
Every assumption is a constant beside its use, and is printed (`table`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reasonray.core.errors import UserError
from reasonray.core.place import Place, place
from reasonray.core.recipe import Recipe, load
from reasonray.costs.architectures import UnknownModelError
from reasonray.costs.generation import GenerationPlan, plan_generation
from reasonray.costs.hardware import KINDS, Hardware, hardware
from reasonray.costs.measured import Measured, read
from reasonray.costs.training import TrainingPlan, plan_training


@dataclass(frozen=True)
class Plan:
    """All that is printed.

    Attributes:
        name: of the recipe.
        recipe: as planned.
        generation, training: what it makes; no training where the recipe has none, or the reason
            why it cannot be planned.
        measured: a run whose figures were taken.
        gpu: what was asked for; a part that takes none of them is planned on cores, as many as the
            recipe takes.
        utilisation: of the peak, of all models; None: as measured on one card (`reach`).
        price: dollars an hour of one such; None: the table's.
    """

    name: str
    recipe: Recipe
    generation: GenerationPlan
    training: TrainingPlan | str | None
    measured: Measured | None
    gpu: Hardware
    utilisation: float | None
    price: float | None

    def price_of(self, machine: Hardware) -> float:
        """Dollars for an hour of a GPU (or core)."""
        return _price(machine, self.gpu, self.price)

    @property
    def settings(self) -> list[str]:
        """What `generate` and `train` are to be told to run as planned."""
        training = self.training.settings if isinstance(self.training, TrainingPlan) else []
        return self.generation.settings + training


def plan(
    recipe: str | Path,
    *,
    count: int,
    gpu: str,
    num_gpus: int,
    utilisation: float | None = None,
    price: float | None = None,
    measured: str | Place | None = None,
    parts: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
) -> Plan:
    """Count what a recipe costs.

    Args:
        recipe: a shipped recipe's name or a YAML file.
        count: inputs, of all parts together.
        gpu: one of `hardware.KINDS`.
        num_gpus: of the cluster; cores for `cpu`.
        utilisation: part of the peak that is reached, 0..1; None: as measured on one card.
        price: dollars an hour of one; None: the table's.
        measured: a finished run's manifest, or its folder.
        parts: replace the recipe's.
        overrides: `a.b=c` settings of the recipe.

    Raises:
        UserError: one of these cannot be used.
    """
    if count < 1 or num_gpus < 1:
        raise UserError(f"plan: count {count}, num_gpus {num_gpus}: expected 1 or more of each")
    is_part = utilisation is None or 0 < utilisation <= 1
    if not is_part or (price is not None and price <= 0):
        raise UserError(
            f"plan: utilisation {utilisation}, price {price}: expected a part of 1 or None, and a "
            "price above 0 or None"
        )
    machine, checked = hardware(gpu), load(recipe, overrides, parts=parts)
    run = None if measured is None else read(place(measured, "--measured"), checked)
    generation = plan_generation(checked, count, machine, num_gpus, utilisation, run)
    return Plan(
        name=str(recipe),
        recipe=checked,
        generation=generation,
        training=_training(checked, generation.accepted, machine, num_gpus, utilisation, price),
        measured=run,
        gpu=machine,
        utilisation=utilisation,
        price=price,
    )


def _training(
    recipe: Recipe,
    samples: float,
    gpu: Hardware,
    num_gpus: int,
    utilisation: float | None,
    price: float | None,
) -> TrainingPlan | str | None:
    config = recipe.editor
    if "editor" not in recipe.model_fields_set:
        return None
    if not samples * (1 - config.validation_fraction):
        return "no samples to train on"
    machine = gpu if config.machines.num_gpus else KINDS["cpu"]
    number = num_gpus if machine == gpu else None
    paid = _price(machine, gpu, price)
    try:
        return plan_training(config, samples, machine, number, utilisation, paid)
    except UnknownModelError as error:
        return f"unknown: {error}; download the model, or name a folder"


def _price(machine: Hardware, gpu: Hardware, price: float | None) -> float:
    return machine.price if price is None or machine != gpu else price

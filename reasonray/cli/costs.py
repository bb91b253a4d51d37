"""The command that counts what a recipe will cost: plan."""

import click

from reasonray.cli import options


@click.command(
    "plan",
    short_help="Count what a recipe will cost.",
    epilog="Try it: reasonray plan paper --count 100000 --gpu a100",
)
@click.argument("recipe")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=40_212,
    show_default=True,
    metavar="N",
    help="Inputs of all parts together; the default is the paper's dataset.",
)
@click.option(
    "--gpu",
    default="h100",
    show_default=True,
    metavar="KIND",
    help="What the cluster has: h200 (141 GB), h100 (80 GB), a100 (80 GB), l4 (24 GB), or cpu for "
    "cores alone.",
)
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="How many of them; with cpu, cores. Beside GPUs, what takes none is planned on as many "
    "cores as the recipe gives it.",
)
@click.option(
    "--utilisation",
    type=click.FloatRange(min=0, max=1, min_open=True),
    metavar="U",
    help="Part of the peak FLOP/s that all models reach; by default what each reached on one card, "
    "which is printed.",
)
@click.option(
    "--price",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="Of one of them for an hour; by default a typical one, which is printed.",
)
@click.option(
    "--measured",
    metavar="FILE",
    help="manifest.json of a finished run of this recipe: its seconds and rejections are taken.",
)
@options.parts("Only these parts.")
@options.settings("Change one key of the recipe, e.g. editor.features=online. Repeatable.")
def plan_recipe(
    recipe: str,
    count: int,
    gpu: str,
    gpus: int,
    utilisation: float | None,
    price: float | None,
    measured: str | None,
    parts: list[str] | None,
    settings: tuple[str, ...],
) -> None:
    """Count what RECIPE costs before it is run: seconds, memory, GPU-hours, money, disk.

    No weights are downloaded: the models are built from their configurations, which may be fetched
    from the hub. What is assumed is said first, and last what to set for a run as planned.
    """
    from rich.console import Console

    from reasonray.costs import plan
    from reasonray.costs.table import show

    counted = plan(
        recipe,
        count=count,
        gpu=gpu,
        num_gpus=gpus,
        utilisation=utilisation,
        price=price,
        measured=measured,
        parts=parts,
        overrides=settings,
    )
    # As wide as the tables are, also where the output goes into a file.
    show(counted, Console(width=max(Console().width, 110), highlight=False))

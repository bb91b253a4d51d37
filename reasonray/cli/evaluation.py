"""The commands around an evaluation: benchmark, evaluate, ablate."""

import click

from reasonray.cli import options


@click.command(
    "benchmark",
    short_help="Make a benchmark of a test split.",
    epilog="Try it: reasonray benchmark mini --count 50 --output out/benchmark",
)
@click.argument("recipe")
@options.sources(
    "Where inputs lie that nothing was trained on, as generate has it; of v3det the split test."
)
@click.option("--count", type=click.IntRange(min=1), default=1000, show_default=True, help="Pairs.")
@click.option(
    "--against",
    "against",
    multiple=True,
    metavar="DIR",
    help="A dataset that was trained on: none of its pictures may be tested on. Repeatable.",
)
@options.folder("--output", "New or empty folder, or a URI of a store.", required=True)
@options.settings("Change one key of the recipe. Repeatable.")
def make_benchmark(
    recipe: str,
    sources: tuple[str, ...],
    count: int,
    against: tuple[str, ...],
    output: str,
    settings: tuple[str, ...],
) -> None:
    """Generate with RECIPE until there are enough samples, and make a benchmark of them.

    Each pair has direct instructions of several templates and a reasoning one. The truth is what
    the recipe's painter made.
    """
    from reasonray.core.errors import UserError
    from reasonray.core.place import place
    from reasonray.core.recipe import load
    from reasonray.evaluation import creation
    from reasonray.generation.run import begun_with, generate

    creation.check_target(output, against)
    whole = load(recipe, settings, sources)
    splits = [
        f"sources.{number}.split=test"
        for number, source in enumerate(whole.sources)
        if source.format == "v3det" and source.split == "train"
    ]
    # Part I has no categories to be asked for plainly.
    parts = [part for part in whole.parts if part != "I"]
    if not parts:
        raise UserError("parts: a benchmark is made of parts II and III, the recipe has I alone")
    folder = place(output) / creation.GENERATED
    # What was generated for another count is gone on with, and may do.
    before = begun_with(folder) or {}
    own = load(
        recipe, [*settings, *splits], sources, parts, accepted=before.get("accepted") or count
    )
    generate(own, folder)
    number = creation.make_benchmark(folder, output, count, seed=own.seed, against=against)
    click.echo(f"{output}: {number} pairs")


@click.command(
    "evaluate",
    short_help="Measure editors on benchmarks.",
    epilog="Try it: reasonray evaluate mini --editor truth --benchmark out --output o",
)
@click.argument("recipe")
@options.named_folders(
    "--editor specs",
    "FOLDER, hub id or URI of a diffusers pipeline; CLASS:FOLDER; http://HOST/v1[#MODEL]; "
    "pictures:FOLDER; python:MODULE:NAME; or identity, truth. Repeatable; leads are over the "
    "first.",
    "NAME=SPEC",
)
@options.named_folders(
    "--benchmark benchmarks",
    "A folder that benchmark has made, or a public one by its name. Repeatable.",
    "[NAME=]PATH",
)
@options.folder(
    "--output", "Folder, or URI of a store; an unfinished one is gone on with.", required=True
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Edit again what has no picture yet, and measure again what has no figure.",
)
@options.settings("Change one key of the recipe, e.g. evaluation.side=512. Repeatable.")
def evaluate_editors(
    recipe: str,
    specs: tuple[str, ...],
    benchmarks: tuple[str, ...],
    output: str,
    retry_failed: bool,
    settings: tuple[str, ...],
) -> None:
    """Measure editors by RECIPE's section `evaluation`; their edits and figures stay in --output.

    Its index.html is a page with tables, charts and pictures. Editors and benchmarks can be added
    later. A row that an editor fails on is a counted failure.
    """
    from reasonray.evaluation.run import evaluate

    click.echo(evaluate(recipe, specs, benchmarks, output, settings, retry_failed=retry_failed))


@click.command(
    "ablate",
    short_help="Train and measure what each part of the data brings.",
    epilog="Try it: reasonray ablate mini --data out/demo --benchmark b --output o",
)
@click.argument("recipe")
@options.folder(
    "--data", "A dataset that generate has made, of all three parts, or its URI.", required=True
)
@options.named_folders(
    "--benchmark benchmarks",
    "A folder that benchmark has made, or a public one by its name. Repeatable.",
    "[NAME=]PATH",
)
@options.folder(
    "--output", "Folder, or URI of a store; an unfinished one is gone on with.", required=True
)
@options.settings("Change one key of the recipe, e.g. editor.num_steps=2000. Repeatable.")
def run_ablation(
    recipe: str, data: str, benchmarks: tuple[str, ...], output: str, settings: tuple[str, ...]
) -> None:
    """Measure what each part of the data brings, and what the multimodal model (Figure 15).

    Compared are InstructPix2Pix, the multimodal model without fine-tuning, and fine-tunings on
    part I, on I and II, and on all three: as many steps each, the same seeds, one cache of
    features.
    """
    from reasonray.evaluation.ablation.running import ablate

    click.echo(ablate(recipe, data, benchmarks, output, settings))

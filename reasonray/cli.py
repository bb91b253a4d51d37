"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from reasonray.core.version import __version__
from reasonray.errors import RunError, UserError

AGAIN = "the same command continues it"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it: reasonray generate mini --output out/demo",
)
@click.version_option(__version__, message="reasonray %(version)s")
def cli() -> None:
    """Expand image-editing datasets with reasoning instructions, on a laptop or a Ray cluster."""


@cli.command(
    short_help="Make a dataset.", epilog="Try it: reasonray generate mini --output out/demo"
)
@click.argument("recipe")
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    help="New or empty folder for the dataset; an unfinished run in it is continued.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="FORMAT=PATH",
    help="Inputs, instead of the recipe's. FORMAT: instructpix2pix, instructpix2pix-parquet, "
    "v3det, folder or mini. Repeatable.",
)
@click.option("--parts", metavar="I,II,III", help="Make only these parts.")
@click.option(
    "--limit", type=int, metavar="N", help="At most so many inputs of each source for each part."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the recipe, e.g. stages.paint.guidance_scale=5. Repeatable.",
)
def generate(
    recipe: str,
    output: str,
    sources: tuple[str, ...],
    parts: str | None,
    limit: int | None,
    settings: tuple[str, ...],
) -> None:
    """Make a dataset as RECIPE says: a shipped one (mini, paper, current) or a YAML file."""
    from reasonray import generate as run
    from reasonray.recipe import load

    overrides = list(settings)
    if parts is not None:
        overrides.append("parts=" + json.dumps([part.strip() for part in parts.split(",")]))
    if limit is not None:
        overrides.append(f"limit={limit}")
    if sources:
        # First, so that --set sources.0.split=val reaches into them.
        overrides.insert(0, "sources=" + json.dumps([_source(text) for text in sources]))
    manifest = run(load(recipe, overrides), output=output)
    click.echo(
        f"{manifest.accepted} of {manifest.inputs} inputs became samples, "
        f"{manifest.rejected} were rejected\n{Path(output) / 'report.html'}"
    )


@cli.command(
    short_help="Write a page about a dataset or a run.", epilog="Try it: reasonray report out/demo"
)
@click.argument("folder", metavar="DIR")
def report(folder: str) -> None:
    """Write DIR/report.html, one page to look at; also while the run is going."""
    from reasonray.report import write

    click.echo(write(folder))


@cli.command(
    short_help="Write a dataset in the files of other trainers.",
    epilog="Try it: reasonray export out/demo --format diffusers --output out/diffusers",
)
@click.argument("folder", metavar="DIR")
@click.option(
    "--format",
    "kind",
    required=True,
    metavar="FORMAT",
    help="instructpix2pix: the original's folders, for its edit_dataset.py; diffusers: Parquet for "
    "train_instruct_pix2pix.py; magicbrush: Parquet with MagicBrush's columns, masks included.",
)
@click.option("--output", required=True, metavar="DIR", help="New or empty folder.")
@click.option(
    "--instruction",
    default="reasoning",
    show_default=True,
    metavar="KIND",
    help="What the trainer reads: reasoning, direct, or both, which makes two rows of a sample.",
)
@click.option("--parts", metavar="I,II,III", help="Only samples of these parts.")
def export(folder: str, kind: str, output: str, instruction: str, parts: str | None) -> None:
    """Write the accepted samples of DIR, made by generate, as others' trainers read them."""
    from reasonray import export as write

    words: dict[str, Any] = {"format": kind, "instruction": instruction}
    if parts is not None:
        words["parts"] = [part.strip() for part in parts.split(",")]
    num_rows = write(folder, output=output, **words)
    click.echo(f"{num_rows} rows\n{output}")


@cli.command(
    "train",
    short_help="Train an editor on a dataset.",
    epilog="Try it: reasonray train paper --data out/paper --output out/editor",
)
@click.argument("recipe")
@click.option("--data", required=True, metavar="DIR", help="A dataset that generate has made.")
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    help="New or empty folder for the editor; an unfinished training in it is continued.",
)
@click.option("--parts", metavar="I,II,III", help="Only samples of these parts.")
@click.option(
    "--features",
    metavar="DIR",
    help="Folder for what the frozen models give, which trainings share; by default in --output.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the recipe, e.g. editor.num_steps=2000. Repeatable.",
)
def train_editor(
    recipe: str,
    data: str,
    output: str,
    parts: str | None,
    features: str | None,
    settings: tuple[str, ...],
) -> None:
    """Fine-tune the editor of RECIPE's section `editor` on the accepted samples of a dataset."""
    from reasonray import train as run

    chosen = None if parts is None else [part.strip() for part in parts.split(",")]
    click.echo(run(recipe, data, output, chosen, settings, features))


@cli.command(
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
    help="What the cluster has: h100 (80 GB), a100 (80 GB), l4 (24 GB), or cpu for cores alone.",
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
    default=0.2,
    show_default=True,
    metavar="U",
    help="Part of the peak FLOP/s that the models reach, where nothing was measured.",
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
@click.option("--parts", metavar="I,II,III", help="Only these parts.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the recipe, e.g. editor.features=online. Repeatable.",
)
def plan_recipe(
    recipe: str,
    count: int,
    gpu: str,
    gpus: int,
    utilisation: float,
    price: float | None,
    measured: str | None,
    parts: str | None,
    settings: tuple[str, ...],
) -> None:
    """Count what RECIPE costs before it is run: seconds, memory, GPU-hours, money, disk.

    No weights are downloaded: the models are built from their configurations, which may be fetched
    from the hub. What is assumed is said first, and last what to set for a run as planned.
    """
    from rich.console import Console

    from reasonray.plan import plan
    from reasonray.plan.table import show

    overrides = list(settings)
    if parts is not None:
        overrides.append("parts=" + json.dumps([part.strip() for part in parts.split(",")]))
    made = plan(
        recipe,
        count=count,
        gpu=gpu,
        num_gpus=gpus,
        utilisation=utilisation,
        price=price,
        measured=measured,
        overrides=overrides,
    )
    # As wide as the tables are, also where the output goes into a file.
    show(made, Console(width=max(Console().width, 110), highlight=False))


@cli.group(epilog="Try it: reasonray recipe show mini")
def recipe() -> None:
    """What a run does: mini, paper, current, or a file of your own."""


@recipe.command(epilog="Try it: reasonray recipe show paper > mine.yaml")
@click.argument("recipe")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key first. Repeatable.",
)
def show(recipe: str, settings: tuple[str, ...]) -> None:
    """Print RECIPE whole, with every default, each key explained; a start for your own."""
    from reasonray.core.commented import commented
    from reasonray.recipe import load

    click.echo(commented(load(recipe, settings)), nl=False)


@cli.group(epilog="Try it: reasonray mini world --format v3det --count 20 --output out/world")
def mini() -> None:
    """The mini world and the tiny models that live in it."""


@mini.command(epilog="Try it: reasonray mini world --format v3det --count 20 --output out/world")
@click.option("--format", "kind", type=click.Choice(["v3det", "instructpix2pix"]), required=True)
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1_000_000,
    show_default=True,
    help="Of the first scene; the tiny models have seen those below a million.",
)
@click.option("--output", required=True, metavar="DIR", help="New or empty folder.")
def world(kind: str, count: int, seed: int, output: str) -> None:
    """Draw scenes of the mini world, in the files of a real dataset."""
    from reasonray.mini.formats import write_instructpix2pix, write_v3det
    from reasonray.mini.world import require_packages

    require_packages()
    folder = Path(output)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"--output {output}: is there already; give a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be made ({error.strerror})") from error
    writers = {"v3det": write_v3det, "instructpix2pix": write_instructpix2pix}
    writers[kind](folder, count, seed)
    click.echo(folder)


@mini.command(epilog="Try it: reasonray mini train detector")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--workdir",
    default=".train",
    show_default=True,
    metavar="DIR",
    help="Checkpoints; an interrupted training continues from them.",
)
def train(models: tuple[str, ...], workdir: str) -> None:
    """Train the tiny models (all, or those named) into the package; hours on two cores.

    MODEL: vae, painter, detector, captioner, classifier, language_model, mllm, instructpix2pix,
    clip or dino.
    """
    from reasonray.mini.train import train_zoo

    for folder in train_zoo(models, Path(workdir)):
        click.echo(folder)


@mini.command(epilog="Try it: reasonray mini evaluate --only detector")
@click.option("--only", multiple=True, metavar="GROUP", help="Only this group. Repeatable.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Held-out scenes of each group.",
)
def evaluate(only: tuple[str, ...], count: int) -> None:
    """Measure the tiny models on scenes they have never seen, through the real stages."""
    from rich.console import Console
    from rich.table import Table

    from reasonray.mini.evaluate import evaluate as measure

    table = Table("figure", box=None, pad_edge=False)
    for title in ("value", "target", "cases", ""):
        table.add_column(title, justify="right")
    for line in measure(list(only) or None, count):
        sign = "≥" if line.higher_is_better else "≤"
        target = f"{sign} {line.target:.3g}" if line.target is not None else ""
        mark = "" if line.target is None else "reached" if line.reached else "missed"
        table.add_row(line.name, f"{line.value:.4g}", target, str(line.count), mark)
    Console().print(table)


def main() -> None:
    """The `reasonray` command."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code: 0 done, 1 failed, 2 the user's mistake.

    An exception that is not one of ours is a bug of ours and passes through, with its traceback.
    """
    try:
        code = cli.main(list(arguments), prog_name="reasonray", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        hint = f" (see {command} --help)" if command else ""
        return _fail(f"{error.format_message()}{hint}", 2)
    except UserError as error:
        return _fail(str(error), 2)
    except RunError as error:
        hint = "" if "same command" in str(error) else f"; {AGAIN}"
        return _fail(f"{error}{hint}", 1)
    except (KeyboardInterrupt, click.Abort):
        return _fail(f"stopped; {AGAIN}", 1)
    return code if isinstance(code, int) else 0


def call_job(name: str, arguments: Sequence[str]) -> int:
    """`call` of one command in a job of Ray, which runs in a copy of the working directory.

    The copy goes when the job ends: the folders that a command takes with --data, --output and
    --features must be absolute.
    """

    def absolute(context: click.Context, parameter: click.Parameter, folder: str | None) -> Any:
        if folder is not None and not Path(folder).is_absolute():
            raise click.BadParameter(
                f"{folder}: give an absolute path on storage that all nodes mount"
            )
        return folder

    for parameter in cli.commands[name].params:
        if parameter.name in ("data", "output", "features"):
            parameter.callback = absolute
    return call([name, *arguments])


def _fail(message: str, code: int) -> int:
    click.echo(f"reasonray: {' '.join(message.split())}", err=True)
    return code


def _source(text: str) -> dict[str, str]:
    kind, separator, path = text.partition("=")
    if not (separator and kind and path):
        raise UserError(f"--source {text}: expected FORMAT=PATH, e.g. v3det=/data/V3Det")
    return {"format": kind, "path": path}

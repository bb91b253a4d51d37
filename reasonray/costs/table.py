"""A plan as text: what is assumed and what was measured first, then the tables.

`plan.txt` has the words; here are the numbers' formats and the tables.
"""

from collections.abc import Iterable
from pathlib import Path

import jinja2
from rich.console import Console
from rich.table import Table

from reasonray.core.console import duration
from reasonray.core.packing import SPARE_CPUS
from reasonray.costs import Plan
from reasonray.costs.asking import dollars
from reasonray.costs.generation import LATENCY_S, GenerationPlan, PoolPlan
from reasonray.costs.hardware import GIB
from reasonray.costs.reach import ASSUMED, CARD, MEASURED
from reasonray.costs.training import DISK_PRICE, INSTRUCTION_TOKENS, TrainingPlan
from reasonray.costs.work import CAPTION_TOKENS, Work, picture_size


def show(plan: Plan, console: Console) -> None:
    """Print a plan: lines as they stand in `plan.txt`, the tables under their titles."""
    generation = plan.generation
    tables = {"Stages": _stages(generation), "Pools in balance": _pools(generation)}
    if isinstance(plan.training, TrainingPlan):
        tables["Memory of one training process"] = _memory(plan.training)
    rows: list[tuple[str, str]] = []
    for line in [*_text(plan).splitlines(), ""]:
        name, bar, value = line.partition(" | ")
        if bar:
            rows.append((name, value))
            continue
        if rows:
            console.print(_sums(rows))
            rows = []
        if line.startswith("# "):
            title = line.removeprefix("# ")
            console.print(f"\n[bold]{title}[/bold]")
            if title in tables:
                console.print(tables[title])
        elif line:
            # Settings on one line, to be copied.
            console.print(line, soft_wrap=line.startswith("  --set"))


def _text(plan: Plan) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "counted": lambda count, word: f"{count} {word}{'' if count == 1 else 's'}",
        "dollars": lambda value: f"${value:,.0f}" if value >= 10 else f"${value:.2f}",
        "figure": _figure,
        "g": lambda value: f"{value:g}",
        "number": lambda value, digits=0: f"{value:,.{digits}f}",
        "percent": lambda value: f"{value:.0%}",
        "short": _short,
        "size": _size,
        "time": lambda hours: duration(3600 * hours),
    }
    stages = plan.generation.stages
    rented = [plan.generation.machine]
    if isinstance(plan.training, TrainingPlan):
        rented.append(plan.training.machine)
    at_work = [stage.machine for stage in stages if stage.work.flops]
    asking = [stage for stage in stages if stage.work.is_server and stage.work.tokens]
    server_tokens = [[stage.rows * n for n in stage.work.tokens or ()] for stage in asking]
    return environment.get_template("plan.txt").render(
        plan=plan,
        rented=list(dict.fromkeys(rented)),
        machines=list(dict.fromkeys([*rented, *at_work])),
        server_tokens=server_tokens,
        server_dollars=dollars(plan.recipe, *map(sum, zip(*server_tokens, strict=True)))
        if server_tokens
        else None,
        ASSUMED=ASSUMED,
        CARD=CARD,
        MEASURED=MEASURED,
        CAPTION_TOKENS=CAPTION_TOKENS,
        DISK_PRICE=DISK_PRICE,
        GIB=GIB,
        INSTRUCTION_TOKENS=INSTRUCTION_TOKENS,
        LATENCY_S=LATENCY_S,
        picture=picture_size(plan.recipe),
        SPARE_CPUS=SPARE_CPUS,
    )


def _stages(generation: GenerationPlan) -> Table:
    table = _table("stage", "model", "params", "work/row", "rows", "s/row", "on", "hours", "")
    for stage in generation.stages:
        work = stage.work
        known = not work.unknown or stage.is_measured
        hours = f"{stage.rows * stage.device_seconds / 3600:,.1f}"
        table.add_row(
            stage.name,
            (work.model or "").rpartition("/")[2],
            _short(work.parameters) if work.parameters else "",
            _work(work),
            f"{stage.rows:,.0f}",
            "" if work.is_server else _figure(stage.device_seconds) if known else "?",
            "server" if work.is_server else stage.machine.unit,
            "" if work.is_server else hours if known else "?",
            "measured" if stage.is_measured else "",
        )
    return table


def _work(work: Work) -> str:
    if work.is_server and work.tokens:
        return f"{sum(work.tokens):,} tokens"
    return f"{_short(work.flops)}FLOP" if work.flops else ""


def _pools(generation: GenerationPlan) -> Table:
    table = _table("pool", "actors", "recipe's", "each", "GiB", "rows/s", "busy", "")
    for pool in generation.pools:
        table.add_row(
            " + ".join(pool.config.stages),
            str(pool.actors),
            f"{pool.config.min_actors}..{pool.config.max_actors}",
            _share(pool),
            f"{pool.memory / GIB:.1f}" if pool.memory else "",
            _figure(pool.rate),
            f"{generation.rate / pool.rate:.0%}",
            "" if pool.fits else "!",
        )
    return table


def _share(pool: PoolPlan) -> str:
    if pool.machine.is_gpu:
        return f"{pool.config.num_gpus:g} {pool.machine.unit}"
    return f"{pool.config.num_cpus:g} core"


def _memory(training: TrainingPlan) -> Table:
    table = _table("", "trained", "states", "bf16 copies", "activations", "GiB in all", "")
    machine = training.machine
    room = machine.memory * (min(training.share, 1) if machine.is_gpu else training.share)
    for line in training.memory:
        table.add_row(
            line.name,
            _short(line.trained),
            f"{line.states / GIB:.1f}",
            f"{line.casts / GIB:.1f}",
            f"{line.activations / GIB:.1f}",
            f"{line.total / GIB:.1f}",
            "fits" if line.total <= room * GIB else f"more than {room:g}",
        )
    size = training.config.machines.micro_batch_size
    table.caption = (
        f"activations are an estimate, of a micro-batch of {size}; editor.machines.parallel and "
        "editor.lora_rank choose"
    )
    if training.config.features == "online":
        table.caption += "; the states hold the frozen models' weights, too (features=online)"
    table.caption_justify = "left"
    return table


def _table(first: str, *titles: str) -> Table:
    """Of words on the left, figures on the right."""
    table = Table(box=None)
    table.add_column(first, max_width=40)
    for title in titles:
        words = title == "model"
        table.add_column(title, justify="left" if words else "right", no_wrap=True)
    return table


def _sums(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False)
    for name, value in lines:
        table.add_row(name, value)
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _short(value: float) -> str:
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _size(value: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"

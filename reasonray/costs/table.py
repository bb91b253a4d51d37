"""A plan as text: what is assumed and what was measured first, then the tables."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table

from reasonray.core.console import duration
from reasonray.core.packing import SPARE_CPUS
from reasonray.costs import Plan
from reasonray.costs.generation import LATENCY_S, GenerationPlan, PoolPlan
from reasonray.costs.hardware import GIB, Hardware
from reasonray.costs.schedule import Schedule
from reasonray.costs.training import DISK_PRICE, INSTRUCTION_TOKENS, TrainingPlan
from reasonray.costs.work import CALL_S, CAPTION_TOKENS, PICTURE, Work


def show(plan: Plan, console: Console) -> None:
    """Print a plan."""
    generation = plan.generation
    parts = ", ".join(f"{part} {share:.0%}" for part, share in generation.shares.items())
    print_line = console.print
    print_line(
        f"[bold]{plan.name}[/bold]: {generation.count:,} inputs (parts {parts}) on "
        f"{generation.number:g} {_units(generation.machine, generation.number)}"
    )
    for title, lines in (("Assumed", _assumed(plan)), ("Measured", _measured(plan))):
        print_line(f"\n[bold]{title}[/bold]")
        print_line(_sums(("-", line) for line in lines))
    print_line("\n[bold]Stages[/bold]")
    print_line(_stages(generation))
    _notes(_stage_notes(generation), console)
    print_line("\n[bold]Pools in balance[/bold]")
    print_line(_pools(generation))
    _notes(_pool_notes(generation), console)
    print_line("\n[bold]The dataset[/bold]")
    print_line(_sums(_dataset(plan)))
    print_line("\n[bold]The editor's training[/bold]")
    if isinstance(plan.training, TrainingPlan):
        print_line(_sums(_training(plan.training, plan)))
        print_line("\n[bold]Memory of one training process[/bold]")
        print_line(_memory(plan.training))
        print_line("\n[bold]The frozen models' features: cached or online[/bold]")
        print_line(_sums(_features(plan.training)))
        print_line(f"  {_verdict(plan.training)}")
    elif plan.training is None:
        print_line("  the recipe has no section editor")
    else:
        print_line(f"  {plan.training}")
    if plan.settings:
        print_line("\n[bold]To generate and train as planned[/bold]")
        # On one line, to be copied.
        print_line("  " + " ".join(f"--set {setting}" for setting in plan.settings), soft_wrap=True)


def _notes(notes: Iterable[tuple[str, str]], console: Console) -> None:
    if lines := list(notes):
        console.print(_sums(lines))


def _assumed(plan: Plan) -> Iterator[str]:
    rows = f"pictures of {PICTURE[0]} x {PICTURE[1]}"
    if plan.measured is None:
        yield f"no input is rejected on the way; parts as in the paper's dataset; {rows}"
    else:
        yield rows
    yield (
        "as many actors, workers and feature actors as make use of the whole cluster, not as the "
        "recipe has them"
    )
    rented = [plan.generation.machine]
    if isinstance(plan.training, TrainingPlan):
        rented.append(plan.training.machine)
    at_work = [stage.machine for stage in plan.generation.stages if stage.work.flops]
    for machine in dict.fromkeys([*rented, *at_work]):
        peak = f"{machine.half:g} TFLOP/s in half precision, {machine.single:g} in float32"
        if not machine.is_gpu:
            peak = f"{machine.single:g} TFLOP/s"
        yield f"{plan.utilisation:.3g} of {machine.one}'s peak ({peak}) is reached"
    for machine in dict.fromkeys(rented):
        is_chosen = machine == plan.gpu
        if not is_chosen:
            yield "as many cores as the recipe takes (others: --gpu cpu --gpus N)"
        if not is_chosen or plan.price is None:
            yield (
                f"${machine.price:g} an hour for {machine.one}, its machine included"
                f"{' (--price)' if is_chosen else ''}"
            )
    yield (
        f"a forward pass takes {1000 * CALL_S:g} ms at least, a backward pass is two forward ones; "
        f"a caption has {CAPTION_TOKENS} tokens, an instruction {INSTRUCTION_TOKENS}; decoding, "
        "resizing and PNG take a core 5 to 90 ms a stage; loading and downloading the models "
        "takes no time"
    )
    if any(stage.work.is_server for stage in plan.generation.stages):
        yield (
            f"the language model's server answers in {LATENCY_S:g} s, in plain JSON: a model that "
            "reasons aloud writes more"
        )


def _measured(plan: Plan) -> Iterator[str]:
    measured = plan.measured
    if measured is None:
        least = plan.generation.least_gpus
        where = f"{_counted(least, 'GPU')}, the least it starts on" if least else "this machine"
        yield (
            f"nothing. For real figures run a hundred inputs on {where}, then: reasonray plan "
            f"{plan.name} --measured DIR/manifest.json"
        )
        return
    taken = [stage.name for stage in plan.generation.stages if stage.is_measured]
    yield f"seconds of {', '.join(taken) or 'no stage'}, on the machine of {measured.path}"
    yield "how many rows are rejected, and before which stage" + (
        "; bytes on disk" if measured.row_bytes is not None else ""
    )
    if measured.ignored:
        yield f"not taken, for their settings differ: {', '.join(measured.ignored)}"
    other = [
        stage.name
        for stage in plan.generation.stages
        if stage.name in measured.timings and not stage.is_measured
    ]
    if other:
        yield (
            "not taken, for that run had them on another kind of device (CPU or GPU): "
            f"{', '.join(other)}"
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
            _count(work.parameters) if work.parameters else "",
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
    return f"{_count(work.flops)}FLOP" if work.flops else ""


def _stage_notes(generation: GenerationPlan) -> Iterator[tuple[str, str]]:
    for stage in generation.stages:
        if stage.work.unknown:
            counted = "" if stage.is_measured else "; not counted"
            yield (
                "?",
                f"{stage.name}: {stage.work.model} is unknown ({stage.work.unknown}){counted}; "
                "download it or name a folder",
            )


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


def _pool_notes(generation: GenerationPlan) -> Iterator[tuple[str, str]]:
    for pool in generation.pools:
        machine, needed = pool.machine, f"{pool.memory / GIB:.1f} GiB"
        if pool.fits:
            continue
        if machine.is_gpu:
            remedy = (
                f"more than its share of {machine.one} with {machine.memory:g}: raise the pool's "
                "num_gpus or lower its batch_size"
            )
        else:
            remedy = (
                f"more than {machine.memory:g} for each core it asks for: an actor is counted as "
                f"{pool.need.share:.1f} cores; raise the pool's num_cpus or lower its batch_size"
            )
        yield "!", f"{'+'.join(pool.config.stages)}: {needed} are {remedy}"


def _share(pool: PoolPlan) -> str:
    if pool.machine.is_gpu:
        return f"{pool.config.num_gpus:g} {pool.machine.unit}"
    return f"{pool.config.num_cpus:g} core"


def _dataset(plan: Plan) -> Iterator[tuple[str, str]]:
    generation = plan.generation
    machine = generation.machine
    held = generation.hours * generation.number
    unit = machine.unit
    time, own_time = (duration(3600 * n) for n in (generation.hours, generation.own_hours))
    yield "speed", f"{_figure(generation.rate)} inputs/s, {time} in all"
    if generation.settings:
        yield "as it stands", f"{own_time}, with the recipe's max_actors"
    yield f"{unit}-hours", f"{held:,.1f} held, {generation.device_hours:,.1f} of them at work"
    price = plan.price_of(machine)
    yield "cost", f"{_dollars(held * price)} at ${price:g} an hour"
    if machine.is_gpu:
        yield "CPU cores", f"{generation.cpus:g}, and {SPARE_CPUS} to read and write"
    calls = [
        (stage.rows, stage.work.tokens)
        for stage in generation.stages
        if stage.work.is_server and stage.work.tokens
    ]
    if calls:
        tokens_in = sum(rows * tokens[0] for rows, tokens in calls)
        tokens_out = sum(rows * tokens[1] for rows, tokens in calls)
        yield (
            "language model",
            f"{_count(tokens_in)} tokens read, {_count(tokens_out)} written, not in the cost",
        )
    yield "samples", f"{generation.accepted:,.0f}" + ("" if plan.measured else " at most")
    yield "disk", f"{_size(generation.disk)}, twice that while it is published"


def _training(training: TrainingPlan, plan: Plan) -> Iterator[tuple[str, str]]:
    config, features = training.config, training.features
    steps = f"{config.num_steps:,} steps of {config.batch_size:,}"
    if config.condition == "mllm" and config.alignment_steps:
        steps += f" after {config.alignment_steps:,} that align the connector"
    yield "trained", f"UNet {_count(training.unet)}, connector {_count(training.connector)}"
    yield "frozen", f"{_count(features.frozen)} parameters, {_count(features.flops)} FLOPs a sample"
    yield "FLOPs", f"{_count(training.flops)} a sample, forward and back"
    yield "steps", f"{steps}: {training.comparison.epochs:.1f} epochs"
    schedule, own = training.schedule, training.own
    hours = training.step_hours + training.feature_hours
    unit = training.machine.unit
    yield "time", f"{_figure(schedule.step_seconds)} s a step, {_spread(schedule, ' in all')}"
    if training.settings:
        yield "as it stands", "does not start here" if own is None else _spread(own)
    yield (
        f"{unit}-hours",
        (
            f"{hours:,.1f}: {training.step_hours:,.1f} of steps, {training.feature_hours:,.1f} of "
            f"{config.features} features"
        ),
    )
    price = plan.price_of(training.machine)
    yield "cost", f"{_dollars(hours * price)} at ${price:g} an hour"


def _spread(schedule: Schedule, in_all: str = "") -> str:
    """How long it takes, over how many processes."""
    return (
        f"{duration(3600 * schedule.hours)}{in_all}, with {_counted(schedule.workers, 'worker')} "
        f"and {_counted(schedule.feature_actors, 'feature actor')}"
    )


def _memory(training: TrainingPlan) -> Table:
    table = _table("", "trained", "states", "bf16 copies", "activations", "GiB in all", "")
    machine = training.machine
    room = machine.memory * (min(training.share, 1) if machine.is_gpu else training.share)
    for line in training.memory:
        table.add_row(
            line.name,
            _count(line.trained),
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


def _features(training: TrainingPlan) -> Iterator[tuple[str, str]]:
    compared, each = training.comparison, training.features.bytes
    tokens = f"{_counted(training.features.tokens, 'token')} ({training.config.tokens})"
    yield "a sample", f"{_size(each)}: {tokens}"
    yield (
        "cached",
        (
            f"{_dollars(compared.compute)} to compute once, {_dollars(compared.disk)} for "
            f"{_size(compared.cache_bytes)} and a month (${DISK_PRICE:g} a GB, assumed)"
        ),
    )
    yield "online", f"{_dollars(compared.online)} to compute {compared.epochs:.1f} times"


def _verdict(training: TrainingPlan) -> str:
    compared = training.comparison
    if training.config.flip:
        return "mirrored pairs (editor.flip) are cached only"
    text = (
        f"{compared.cheaper} is cheaper here; the cache pays from {compared.break_even:.1f} "
        "epochs on"
    )
    if compared.cheaper != training.config.features:
        text += f", the recipe has editor.features={training.config.features}"
    return text


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


def _units(machine: Hardware, count: float) -> str:
    return machine.unit if machine.is_gpu or count == 1 else f"{machine.unit}s"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _count(value: float) -> str:
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _size(value: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def _dollars(value: float) -> str:
    return f"${value:,.0f}" if value >= 10 else f"${value:.2f}"

"""The command that says how far two sets of scores agree: agreement."""

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from reasonray.core.errors import UserError

if TYPE_CHECKING:
    from reasonray.evaluation.agreement import Agreement, Estimate
    from reasonray.evaluation.score_files import Preferences, Scores


@click.command(
    "agreement",
    short_help="Say how far a judge agrees with another, or with people.",
    epilog="Try it: reasonray agreement open-judge.csv gpt-4.1.csv",
)
@click.argument("first", metavar="SCORES")
@click.argument("second", metavar="OTHERS")
@click.option(
    "--axis",
    "axes",
    multiple=True,
    metavar="NAME[=OTHER]",
    help="Compare this column of SCORES with that one of OTHERS; by default those that both have. "
    "Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def agreement(first: str, second: str, axes: tuple[str, ...], *, as_json: bool) -> None:
    """Compare SCORES with OTHERS of the same pictures: Kendall's tau-b, pairs, bias, confusion.

    Both are files of .csv, .json, .jsonl or .parquet with a row for each picture: id, editor (where
    there are several), and a column for each axis. Several rows of one picture, as of several
    people, are averaged. OTHERS may hold preferences instead: id, chosen, rejected (two editors).
    Intervals are 95 %, from a bootstrap over ids.
    """
    from reasonray.evaluation.agreement import compare, compare_with_preferences
    from reasonray.evaluation.score_files import Preferences, read_scores

    scores, others = read_scores(first), read_scores(second)
    if isinstance(scores, Preferences):
        raise UserError(f"{first}: holds preferences; give it as the second file")
    names = dict(_axis(axis) for axis in axes)
    results = (
        compare_with_preferences(scores, others, list(names) or None)
        if isinstance(others, Preferences)
        else compare(scores, others, names or None)
    )
    if as_json:
        click.echo(json.dumps([_plain(result) for result in results], indent=2))
        return
    for line in (_of_file(scores), _of_file(others), ""):
        click.echo(line)
    for result in results:
        click.echo("\n".join(_lines(result)) + "\n")


def _axis(axis: str) -> tuple[str, str]:
    ours, _, theirs = axis.partition("=")
    return ours, theirs or ours


def _of_file(scores: "Scores | Preferences") -> str:
    from reasonray.evaluation.score_files import Preferences

    if isinstance(scores, Preferences):
        return f"{scores.name}: {len(scores.pairs)} preferences"
    unscored = f", {scores.num_unscored} without a score" if scores.num_unscored else ""
    return f"{scores.name}: {scores.num_rows} rows{unscored}"


def _lines(result: "Agreement") -> list[str]:
    alone = [
        f"{count} only in {which}"
        for count, which in ((result.num_only_first, "SCORES"), (result.num_only_second, "OTHERS"))
        if count
    ]
    pairs = "of one id" if result.are_within_items else "of all pictures"
    lines = [
        f"## {result.axis}",
        f"pictures       {result.num_pictures}" + (f" ({', '.join(alone)})" if alone else ""),
    ]
    if result.tau is not None:
        lines.append(f"Kendall's tau  {_figure(result.tau)}")
    lines.append(f"right pairs    {_figure(result.accuracy)}, {result.num_pairs} pairs {pairs}")
    if result.difference is not None:
        lines.append(f"mean less mean {_figure(result.difference, sign='+')}")
    if result.confusion:
        lines += ["", *_table(result)]
    return lines


def _figure(estimate: "Estimate", sign: str = "") -> str:
    if estimate.value is None:
        return "none: all scores are equal"
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def _table(result: "Agreement") -> list[str]:
    rows = sorted({row for row, _ in result.confusion})
    columns = sorted({column for _, column in result.confusion})
    lines = [
        f"| SCORES \\ OTHERS | {' | '.join(map(str, columns))} |",
        f"|---{'|---' * len(columns)}|",
    ]
    for row in rows:
        counts = (result.confusion.get((row, column), 0) for column in columns)
        lines.append(f"| {row} | {' | '.join(map(str, counts))} |")
    return lines


def _plain(result: "Agreement") -> dict[str, object]:
    content = dataclasses.asdict(result)
    content["confusion"] = [
        {"first": ours, "second": theirs, "pictures": count}
        for (ours, theirs), count in sorted(result.confusion.items())
    ]
    return content

"""The study's report, in the form of the paper's Table 4: Markdown, LaTeX and JSON."""

import json
from dataclasses import asdict
from pathlib import Path

from reasonray.core.errors import UserError
from reasonray.core.writing import write_file
from reasonray.evaluation.markup import latex_text, markdown_cell
from reasonray.evaluation.study.figures import LEVEL, Agreement, Figures, measured
from reasonray.evaluation.study.store import Store

REPORT = "report"
"""The files' name, before .md, .tex and .json."""

_INTERVAL = (
    f"{100 * LEVEL:.0f} % Wilson intervals whose n is the number of items answered, however many "
    "workers answered each"
)


def write_report(folder: Path) -> str:
    """Write `report.md`, `report.tex` and `report.json` into a study's folder.

    Args:
        folder: of the study, which may be going on.

    Returns:
        The Markdown.

    Raises:
        UserError: no study is there, or nothing can be written.
    """
    store = Store(folder)
    figures = measured(store)
    text = markdown(figures)
    contents = {"md": text, "tex": latex(figures), "json": _json(figures, store)}
    try:
        for kind, content in contents.items():
            write_file(folder / f"{REPORT}.{kind}", content)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    return text


def markdown(figures: Figures) -> str:
    """The table, and what one must know to read it."""
    kinds = figures.kinds
    heads = [markdown_cell(kind) for kind in kinds]
    lines = ["# User study", "", f"| editor | {' | '.join(heads)} |", "|---|" + "---|" * len(kinds)]
    for name in next(iter(kinds.values())).editors:
        cells = _shares(figures, name, bold="**{}**", none="–")
        lines.append(f"| {markdown_cell(name)} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Per cent of the answers that chose the editor's picture, the most in bold; {_INTERVAL}.",
    ]
    lines += ["", f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(kinds)]
    rows = {
        "items answered": [
            f"{each.num_answered_items} of {each.num_items}" for each in kinds.values()
        ],
        "answers": [f"{each.num_answers} of {each.num_tasks}" for each in kinds.values()],
        "pairs of workers who chose the same": [_alike(each.agreement) for each in kinds.values()],
        "Krippendorff's alpha": [_alpha(each.agreement) for each in kinds.values()],
    }
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    places = ", ".join(map(str, figures.places))
    workers = ", ".join(
        f"{num_answered} of {num_tasks}" for num_answered, num_tasks in figures.workers
    )
    lines += [
        "",
        f"Answers by the picture's place on the page, from the first: {places}. By worker: "
        f"{workers}. Answers that their worker has replaced: {figures.num_replaced}.",
    ]
    return "\n".join(lines) + "\n"


def latex(figures: Figures) -> str:
    """The table alone, for the package booktabs."""
    kinds = figures.kinds
    lines = [
        f"% Per cent of answers; {_INTERVAL}.",
        r"\begin{tabular}{l" + "r" * len(kinds) + "}",
        r"\toprule",
        " & ".join(["Editor", *(latex_text(kind) for kind in kinds)]) + r" \\",
        r"\midrule",
    ]
    for name in next(iter(kinds.values())).editors:
        cells = _shares(figures, name, bold=r"\textbf{{{}}}", none="--")
        lines.append(" & ".join([latex_text(name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _shares(figures: Figures, name: str, bold: str, none: str) -> list[str]:
    """An editor's row: for each kind its share and interval, in per cent."""
    cells = []
    for kind in figures.kinds.values():
        each = kind.editors[name]
        if each.share is None or each.interval is None:
            cells.append(none)
            continue
        is_best = each.picks == max(other.picks for other in kind.editors.values())
        share, low, high = (f"{100 * value:.0f}" for value in (each.share, *each.interval))
        cells.append(f"{bold.format(share) if is_best else share} [{low}, {high}]")
    return cells


def _alike(agreement: Agreement) -> str:
    if agreement.share is None:
        return "each item has one answer at most"
    return f"{agreement.share:.0%} of {agreement.num_pairs}"


def _alpha(agreement: Agreement) -> str:
    return "–" if agreement.alpha is None else f"{agreement.alpha:.2f}"


def _json(figures: Figures, store: Store) -> str:
    content = {
        "table": asdict(figures),
        "interval": _INTERVAL,
        "study": store.settings(),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

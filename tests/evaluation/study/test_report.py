import json
from pathlib import Path

import pytest
from studies import Inputs, choose, lay_out, study, write_inputs

from reasonray.core.errors import UserError
from reasonray.evaluation.study.report import write_report
from reasonray.evaluation.study.store import Store


def test_the_table_is_in_the_papers_form(tmp_path: Path) -> None:
    store = study(tmp_path, num_items=4, num_workers=1)
    for task in store.tasks(1):
        is_direct = task.instruction.startswith("direct: show what number 0")
        choose(store, 1, task.task, "rival" if is_direct else "ours")
    text = write_report(tmp_path / "study")
    assert text == (tmp_path / "study/report.md").read_text()
    lines = text.splitlines()
    assert lines[2:7] == [
        "| editor | direct | reasoning |",
        "|---|---|---|",
        "| ours | **75** [30, 95] | **100** [51, 100] |",
        "| baseline | 0 [0, 49] | 0 [0, 49] |",
        "| rival | 25 [5, 70] | 0 [0, 49] |",
    ]
    assert "| answers | 4 of 4 | 4 of 4 |" in lines
    assert "| Krippendorff's alpha | – | – |" in lines
    content = json.loads((tmp_path / "study/report.json").read_text())
    assert content["table"]["kinds"]["direct"]["editors"]["rival"]["share"] == 0.25
    assert content["study"]["quotas"] == {"direct": 4, "reasoning": 4}
    assert not [worker.token for worker in store.workers() if worker.token in json.dumps(content)]


def test_a_study_that_nobody_has_answered_has_a_report(tmp_path: Path) -> None:
    study(tmp_path)
    text = write_report(tmp_path / "study")
    assert "| ours | – | – |" in text
    assert "| items answered | 0 of 4 | 0 of 4 |" in text


def test_names_are_written_as_they_are(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, 2, ("a", "b"), kinds=("50 % | _done_",))
    names = {"a_b & c|d^~\\": inputs.editors["a"], "*b*": inputs.editors["b"]}
    lay_out(tmp_path / "study", Inputs(inputs.items, names), num_workers=1)
    store = Store(tmp_path / "study")
    for task in store.tasks(1):
        choose(store, 1, task.task, "*b*")
    text = write_report(tmp_path / "study")
    assert "| editor | 50 % \\| \\_done\\_ |" in text
    assert "| \\*b\\* | **100** [34, 100] |" in text
    latex = (tmp_path / "study/report.tex").read_text()
    assert r"a\_b \& c|d\textasciicircum{}\textasciitilde{}\textbackslash{} & 0 [0, 66] \\" in latex
    assert r"*b* & \textbf{100} [34, 100] \\" in latex
    assert r"Editor & 50 \% | \_done\_ \\" in latex


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    study(tmp_path)
    (tmp_path / "study/report.tex").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path / "study")

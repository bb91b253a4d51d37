from pathlib import Path

from reasonray.generation.journal import Journal


def test_a_journal_cut_off_in_a_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    journal = Journal(path)
    journal.note(rows=["1", "2"])
    journal.note(stage="quality")
    with path.open("a") as file:
        file.write('{"sta')
    loss = Journal(path).losses()["1"]
    assert (loss.num, loss.num_alone, loss.stage) == (1, 0, "quality")

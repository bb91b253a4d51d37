from toy_notes import DictNotes

from reasonray.generation.journal import Journal, Loss, losses_of, num_loading_losses


def test_what_was_in_hand_when_a_process_ended_is_its_loss() -> None:
    notes = DictNotes()
    journal = Journal(notes, "a")
    journal.note(rows=["1", "2"], stage="paint", alone=False)
    journal.note(rows=["2"], stage="quality", alone=False)
    assert losses_of(notes, [Journal(notes, "a")]) == {"2": Loss(1, 0, "quality")}
    again = Journal(notes, "a")
    again.note(rows=["2"], stage="quality", alone=True)
    assert losses_of(notes, [Journal(notes, "a")]) == {"2": Loss(2, 1, "quality")}


def test_what_is_done_is_no_loss() -> None:
    notes = DictNotes()
    journal = Journal(notes, "a")
    journal.note(rows=["1"], stage="paint", alone=True)
    journal.clear()
    assert losses_of(notes, [Journal(notes, "a")]) == {}


def test_a_loss_with_its_machine_is_laid_to_nobody_also_where_that_is_known_later() -> None:
    notes = DictNotes(node="spot", machines={"spot", "head"})
    Journal(notes, "a").note(rows=["1"], stage="paint", alone=True)
    Journal(notes, "b").note(loading="paint")
    notes.node = "head"
    journals = [Journal(notes, "a"), Journal(notes, "b")]
    assert losses_of(notes, journals) == {"1": Loss(1, 1, "paint")}
    assert num_loading_losses(notes, journals, "paint") == 1
    notes.machines = {"head"}
    assert losses_of(notes, journals) == {}
    assert num_loading_losses(notes, journals, "paint") == 0

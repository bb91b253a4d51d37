"""MagicBrush's test set: edits by people, turn by turn, with a true picture of each.

https://github.com/OSU-NLP-Group/MagicBrush (evaluation/image_eval.py), arXiv 2306.10012. The five
metrics beside the truth, CLIP-T against its local caption: the mean over all turns, each from the
true picture of the turn before (their "all turn"). There is no judge and no rule for a picture that
is missing, at which their script stops: such an item is counted and has no metrics.

The archive of the test set (with a password, to keep it out of training data) holds
`edit_sessions.json`, `local_descriptions.json` and `images/<id>/`; Parquet files with the columns
of the hub's other splits are read as well.
"""

from collections.abc import Iterator, Sequence

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks.entries import Entry, entries, unique
from reasonray.evaluation.benchmarks.layout import Files
from reasonray.evaluation.benchmarks.table import means, single
from reasonray.evaluation.items import (
    TRUTH_METRICS,
    Axes,
    Benchmark,
    Figure,
    Item,
    Scored,
    Scores,
)

_SESSIONS = "edit_sessions.json"
_CAPTIONS = ("local_descriptions.json", "local_captions.json")
_COLUMNS = dict.fromkeys(("img_id", "turn_index", "instruction"), False) | dict.fromkeys(
    ("source_img", "target_img"), True
)


class MagicBrush(Benchmark):
    """Every turn is an item."""

    name = "magicbrush"
    yardstick = "truth"
    num_published = 1053

    def __init__(self, files: Files) -> None:
        self._files = files

    def items(self) -> Sequence[Item]:
        """As `Benchmark.items`; without captions there is no CLIP-T."""
        captions = self._captions()
        has_sessions = self._files.find(_SESSIONS) is not None
        items = self._sessions(captions) if has_sessions else self._rows(captions)
        return unique(list(items), self._files.folder.address)

    def _captions(self) -> dict[str, Entry]:
        if not any(self._files.find(name) for name in _CAPTIONS):
            return {}
        content, uri = self._files.read_json(*_CAPTIONS)
        return dict(zip(content, entries(content, uri), strict=True))

    def _sessions(self, captions: dict[str, Entry]) -> Iterator[Item]:
        content, uri = self._files.read_json(_SESSIONS)
        if not isinstance(content, dict):
            raise UserError(f"{uri}: expected an object of sessions by their ids")
        for session, turns in content.items():
            for number, turn in enumerate(entries(turns, f"{uri} session {session}"), 1):
                before, after = turn.text("input"), turn.text("output")
                yield Item(
                    id=f"{session}-{number}",
                    group="",
                    language="en",
                    pictures=(self._files.picture(turn, f"{session}/{before}"),),
                    instruction=turn.text("instruction"),
                    references=(self._files.picture(turn, f"{session}/{after}"),),
                    reference_text=_caption(captions, session, after),
                    input_caption=_caption(captions, session, before),
                    fields={"session": session, "turn": number},
                )

    def _rows(self, captions: dict[str, Entry]) -> Iterator[Item]:
        for row in self._files.rows("test", _COLUMNS):
            session, number = row.text("img_id"), row.text("turn_index")
            if not number.isdecimal():
                raise row.wrong("turn_index", "a number from 1")
            before = "input" if number == "1" else f"output{int(number) - 1}"
            yield Item(
                id=f"{session}-{number}",
                group="",
                language="en",
                pictures=(row.cell("source_img"),),
                instruction=row.text("instruction"),
                references=(row.cell("target_img"),),
                reference_text=_caption(captions, session, f"{session}-output{number}.png"),
                input_caption=_caption(captions, session, f"{session}-{before}.png"),
                fields={"session": session, "turn": int(number)},
            )

    def output_name(self, item: Item) -> str:
        session, turn = item.fields["session"], item.fields["turn"]
        return f"{session}/{session}_1.png" if turn == 1 else f"{session}/{session}_inde_{turn}.png"

    def score(self, item: Item, axes: Axes | None) -> Scores:
        """The metrics as they are."""
        return {
            name: None if axes is None else axes.get(name)
            for name in TRUTH_METRICS
            if name != "CLIP-T" or item.reference_text
        }

    def aggregate(self, scored: Sequence[Scored]) -> list[Figure]:
        """All turns, then by the turn's number, which is how many edits the picture has had."""
        return means(
            scored,
            lambda each: single(self.score(each.item, each.axes)),
            lambda item: ("", f"turn {item.fields['turn']}"),
        )


def _caption(captions: dict[str, Entry], session: str, name: str) -> str:
    own = captions.get(session)
    return own.text(name, "") if own else ""

"""Part I: the best of the candidates (P_select, Eq. 3)."""

from reasonray.core.record import Row
from reasonray.prompts.replies import Choice, choice_schema, parse_choice
from reasonray.prompts.template import numbered, one_line
from reasonray.stages.asks import Asks, Question


class Select(Asks[Choice]):
    """Asks which candidate is best; a single candidate is taken without asking."""

    name = "select"
    parts = ("I",)
    reads = {
        "input_caption": "caption before the edit",
        "edited_caption": "caption after it",
        "direct_instruction": "the pair's own instruction",
        "candidates": "reasoning instructions",
        "candidate_rationales": "one sentence for each",
        "candidate_reasoning_types": "one of record.REASONING_TYPES for each",
    }
    writes = {
        "instruction": "the chosen candidate",
        "rationale": "its rationale",
        "reasoning_type": "its reasoning type",
    }

    def question(self, row: Row) -> Question[Choice] | None:
        """Which candidate is best."""
        candidates = row["candidates"] or []
        if len(candidates) == 1:
            _choose(row, 0)
            return None
        return Question(
            self.prompt.messages(
                input_caption=one_line(row["input_caption"] or ""),
                edited_caption=one_line(row["edited_caption"] or ""),
                direct_instruction=one_line(row["direct_instruction"] or ""),
                candidates=numbered(candidates),
            ),
            choice_schema(),
            lambda text: parse_choice(text, num_candidates=len(candidates)),
        )

    def answered(self, row: Row, reply: Choice) -> None:
        """Write the chosen candidate."""
        _choose(row, reply.index)


def _choose(row: Row, index: int) -> None:
    row["instruction"] = (row["candidates"] or [])[index]
    row["rationale"] = (row["candidate_rationales"] or [])[index]
    row["reasoning_type"] = (row["candidate_reasoning_types"] or [])[index]

"""Part I: the best of the candidates (P_select, Eq. 3)."""

import random

from reasonray.core.record import Row, sample_seed
from reasonray.prompts.replies import Choice, choice_schema, parse_choice
from reasonray.prompts.template import numbered, one_line
from reasonray.stages.asks import Asks
from reasonray.stages.exchange import Question


class Select(Asks[Choice]):
    """Asks which candidate is best; a single candidate is taken without asking.

    They are shown in an order drawn from the row's seed: language models prefer some places.
    """

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
        shown = [candidates[place] for place in self._order(row)]
        return Question(
            self.prompt.messages(
                input_caption=one_line(row["input_caption"] or ""),
                edited_caption=one_line(row["edited_caption"] or ""),
                direct_instruction=one_line(row["direct_instruction"] or ""),
                candidates=numbered(shown),
            ),
            choice_schema(),
            lambda text: parse_choice(text, num_candidates=len(candidates)),
        )

    def answered(self, row: Row, reply: Choice) -> None:
        """Write the chosen candidate."""
        _choose(row, self._order(row)[reply.index])

    def _order(self, row: Row) -> list[int]:
        """The places of the candidates, as they are shown."""
        places = list(range(len(row["candidates"] or [])))
        random.Random(sample_seed(self.seed, row["id"], "select.order")).shuffle(places)
        return places


def _choose(row: Row, index: int) -> None:
    row["instruction"] = (row["candidates"] or [])[index]
    row["rationale"] = (row["candidate_rationales"] or [])[index]
    row["reasoning_type"] = (row["candidate_reasoning_types"] or [])[index]

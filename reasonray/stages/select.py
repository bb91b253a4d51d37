"""Part I: the best of the candidates (P_select, Eq. 3)."""

from collections.abc import Mapping
from typing import ClassVar

from reasonray.core.record import Part, Row, reject
from reasonray.core.sections import LanguageModelConfig, SelectConfig
from reasonray.models.language_model import load_language_model, revision
from reasonray.prompts.replies import Choice, choice_schema, parse_choice
from reasonray.prompts.template import load, numbered, one_line
from reasonray.stages.ask import REJECTS, Question, Unanswered, ask
from reasonray.stages.stage import Stage


class Select(Stage):
    """Asks which candidate is best; a single candidate is taken without asking."""

    name: ClassVar[str] = "select"
    parts: ClassVar[tuple[Part, ...]] = ("I",)
    reads: ClassVar[Mapping[str, str]] = {
        "input_caption": "caption before the edit",
        "edited_caption": "caption after it",
        "direct_instruction": "the pair's own instruction",
        "candidates": "indirect instructions",
        "candidate_rationales": "one sentence for each",
        "candidate_reasoning_types": "one of record.REASONING_TYPES for each",
    }
    writes: ClassVar[Mapping[str, str]] = {
        "instruction": "the chosen candidate",
        "rationale": "its rationale",
        "reasoning_type": "its reasoning type",
    }
    rejects: ClassVar[Mapping[str, str]] = REJECTS

    def __init__(
        self, config: SelectConfig, language_model: LanguageModelConfig, *, seed: int
    ) -> None:
        self.config = config
        self.seed = seed
        self.language_model = load_language_model(language_model)
        self.prompt = load("select")
        name, commit = language_model.model.name, revision(language_model)
        self.models = [{"stage": self.name, "name": name, "revision": commit}]
        self.prompts = [self.prompt.provenance, load("again").provenance]

    def process(self, rows: list[Row]) -> None:
        """Write the chosen candidate, or reject."""
        asked = []
        for row in rows:
            if len(row["candidates"] or []) == 1:
                _choose(row, 0)
            else:
                asked.append(row)
        answers = ask(
            self.language_model,
            [self._question(row) for row in asked],
            stage=self.name,
            seed=self.seed,
            num_retries=self.config.num_retries,
            temperature=self.config.temperature,
            max_tokens=self.config.max_tokens,
        )
        for row, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Unanswered):
                reject(row, self.name, answer.reason, answer.detail)
            else:
                _choose(row, answer.index)

    def _question(self, row: Row) -> Question[Choice]:
        candidates = row["candidates"] or []
        return Question(
            row["id"],
            self.prompt.messages(
                input_caption=one_line(row["input_caption"] or ""),
                edited_caption=one_line(row["edited_caption"] or ""),
                direct_instruction=one_line(row["direct_instruction"] or ""),
                candidates=numbered(candidates),
            ),
            choice_schema(len(candidates)),
            lambda reply: parse_choice(reply, num_candidates=len(candidates)),
        )


def _choose(row: Row, index: int) -> None:
    row["instruction"] = (row["candidates"] or [])[index]
    row["rationale"] = (row["candidate_rationales"] or [])[index]
    row["reasoning_type"] = (row["candidate_reasoning_types"] or [])[index]

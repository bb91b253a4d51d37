"""Part I: several reasoning instructions for a pair that has a direct one (P_gen, Eq. 2)."""

from collections.abc import Mapping
from typing import ClassVar

from reasonray.core.record import Part, Row, reject
from reasonray.core.sections import LanguageModelConfig, RewriteConfig
from reasonray.models.language_model import load_language_model, revision
from reasonray.prompts.replies import Candidate, candidates_schema, parse_candidates
from reasonray.prompts.template import load, one_line
from reasonray.stages.ask import REJECTS, Question, Unanswered, ask
from reasonray.stages.stage import Stage


class Rewrite(Stage):
    """Asks for all n candidates in one request: cheaper than n requests, and they differ more."""

    name: ClassVar[str] = "rewrite"
    parts: ClassVar[tuple[Part, ...]] = ("I",)
    reads: ClassVar[Mapping[str, str]] = {
        "input_caption": "caption before the edit",
        "edited_caption": "caption after it",
        "direct_instruction": "the pair's own instruction",
    }
    writes: ClassVar[Mapping[str, str]] = {
        "candidates": "indirect instructions, all different",
        "candidate_rationales": "one sentence for each",
        "candidate_reasoning_types": "one of record.REASONING_TYPES for each",
    }
    rejects: ClassVar[Mapping[str, str]] = {
        **REJECTS,
        "no_text": "the pair lacks a caption or its instruction",
        "not_indirect": "every reply named what the edit brings in",
    }

    def __init__(
        self, config: RewriteConfig, language_model: LanguageModelConfig, *, seed: int
    ) -> None:
        self.config = config
        self.seed = seed
        self.language_model = load_language_model(language_model)
        self.prompt = load("gen")
        name, commit = language_model.model.name, revision(language_model)
        self.models = [{"stage": self.name, "name": name, "revision": commit}]
        self.prompts = [self.prompt.provenance, load("again").provenance]

    def process(self, rows: list[Row]) -> None:
        """Write the candidates, or reject."""
        asked: list[Row] = []
        questions: list[Question[tuple[Candidate, ...]]] = []
        for row in rows:
            question = self._question(row)
            if question is None:
                reject(row, self.name, "no_text", "a caption or the direct instruction is empty")
                continue
            asked.append(row)
            questions.append(question)
        answers = ask(
            self.language_model,
            questions,
            stage=self.name,
            seed=self.seed,
            num_retries=self.config.num_retries,
            temperature=self.config.temperature,
            max_tokens=self.config.max_tokens,
        )
        for row, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Unanswered):
                reject(row, self.name, answer.reason, answer.detail)
                continue
            row["candidates"] = [candidate.instruction for candidate in answer]
            row["candidate_rationales"] = [candidate.rationale for candidate in answer]
            row["candidate_reasoning_types"] = [candidate.reasoning_type for candidate in answer]

    def _question(self, row: Row) -> Question[tuple[Candidate, ...]] | None:
        texts = [row.get("input_caption"), row.get("edited_caption"), row.get("direct_instruction")]
        before, after, direct = (one_line(text or "") for text in texts)
        if not (before and after and direct):
            return None
        count = self.config.num_candidates
        return Question(
            row["id"],
            self.prompt.messages(
                input_caption=before,
                edited_caption=after,
                direct_instruction=direct,
                num_candidates=str(count),
            ),
            candidates_schema(count),
            lambda reply: parse_candidates(
                reply,
                num_candidates=count,
                input_caption=before,
                edited_caption=after,
                direct_instruction=direct,
            ),
        )

"""Part I: several reasoning instructions for a pair that has a direct one (P_gen, Eq. 2)."""

from reasonray.core.record import Row, reject, sample_seed
from reasonray.core.sections import RewriteConfig
from reasonray.prompts.english import is_english
from reasonray.prompts.examples import varied
from reasonray.prompts.replies import Candidate, candidates_schema, parse_candidates
from reasonray.prompts.template import one_line
from reasonray.stages.asks import Asks
from reasonray.stages.exchange import Question


class Rewrite(Asks[tuple[Candidate, ...]]):
    """Asks for all n candidates in one request: cheaper than n requests, and they differ more."""

    name = "rewrite"
    parts = ("I",)
    reads = {
        "input_caption": "caption before the edit",
        "edited_caption": "caption after it",
        "direct_instruction": "the pair's own instruction",
    }
    writes = {
        "candidates": "reasoning instructions, all different",
        "candidate_rationales": "one sentence for each",
        "candidate_reasoning_types": "one of record.REASONING_TYPES for each",
    }
    rejects = {
        **Asks.rejects,
        "no_text": "the pair lacks a caption or its instruction",
        "not_english": "a caption or the instruction is in another language",
        "not_indirect": "every reply named what the edit brings in",
    }

    config: RewriteConfig

    def question(self, row: Row) -> Question[tuple[Candidate, ...]] | None:
        """All candidates; rejects a row that lacks a text, or has one that is not English."""
        texts = [row.get("input_caption"), row.get("edited_caption"), row.get("direct_instruction")]
        before, after, direct = (one_line(text or "") for text in texts)
        if not (before and after and direct):
            reject(row, self.name, "no_text", "a caption or the direct instruction is empty")
            return None
        for text in (before, after, direct):
            if not is_english(text):
                detail = f"captions and instructions must be English: {text!r}"
                reject(row, self.name, "not_english", detail)
                return None
        count = self.config.num_candidates
        return Question(
            self.prompt.messages(
                input_caption=before,
                edited_caption=after,
                direct_instruction=direct,
                num_candidates=str(count),
                **varied("gen", sample_seed(self.seed, row["id"], "rewrite.examples")),
            ),
            candidates_schema(count),
            lambda text: parse_candidates(
                text,
                num_candidates=count,
                input_caption=before,
                edited_caption=after,
                direct_instruction=direct,
            ),
        )

    def answered(self, row: Row, reply: tuple[Candidate, ...]) -> None:
        """Write the candidates."""
        row["candidates"] = [candidate.instruction for candidate in reply]
        row["candidate_rationales"] = [candidate.rationale for candidate in reply]
        row["candidate_reasoning_types"] = [candidate.reasoning_type for candidate in reply]

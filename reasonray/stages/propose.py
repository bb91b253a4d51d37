"""Parts II and III: what is replaced by what, and the reasoning instruction (P_replace, Eq. 6)."""

from collections.abc import Mapping
from typing import ClassVar

from reasonray.core.record import Detection, Part, Row, add_scores, reject, sample_seed
from reasonray.core.sections import LanguageModelConfig, ProposeConfig
from reasonray.models.language_model import load_language_model, revision
from reasonray.prompts.direct import direct_instruction
from reasonray.prompts.replies import Replacement, parse_replacement, replacement_schema
from reasonray.prompts.template import load, one_line
from reasonray.stages.ask import REJECTS, Question, Unanswered, ask
from reasonray.stages.stage import Stage


class Propose(Stage):
    """Offers the detected categories; the direct instruction is ours, from several templates."""

    name: ClassVar[str] = "propose"
    parts: ClassVar[tuple[Part, ...]] = ("II", "III")
    reads: ClassVar[Mapping[str, str]] = {
        "input_caption": "caption of the input image",
        "detections": "what was found in it; at least one",
    }
    writes: ClassVar[Mapping[str, str]] = {
        "selected_category": "one of the detected categories",
        "target_category": "what takes its place; lower case, no article",
        "box": "xyxy pixels of input_image, of the selected category",
        "scores.detection": "of that box, 0..1",
        "instruction": "names neither of the two",
        "rationale": "one sentence from the instruction to the target",
        "reasoning_type": "one of record.REASONING_TYPES",
        "edited_caption": "the caption after the edit",
        "direct_instruction": "the plain sentence for the edit",
    }
    rejects: ClassVar[Mapping[str, str]] = {
        **REJECTS,
        "no_text": "the image has no caption",
        "no_object": "no category was found in the image",
        "category_not_offered": "every reply selected something that was not found in the image",
        "unfit_target": "every reply's target was in the image already, or no different thing",
        "not_indirect": "every reply named the target or the selected category",
    }

    def __init__(
        self, config: ProposeConfig, language_model: LanguageModelConfig, *, seed: int
    ) -> None:
        self.config = config
        self.seed = seed
        self.language_model = load_language_model(language_model)
        self.prompt = load("replace")
        name, commit = language_model.model.name, revision(language_model)
        self.models = [{"stage": self.name, "name": name, "revision": commit}]
        self.prompts = [self.prompt.provenance, load("again").provenance]

    def process(self, rows: list[Row]) -> None:
        """Write the replacement, or reject."""
        asked: list[Row] = []
        for row in rows:
            if not one_line(row.get("input_caption") or ""):
                reject(row, self.name, "no_text", "the caption is empty")
            elif not row.get("detections"):
                reject(row, self.name, "no_object", "there is nothing to offer")
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
                self._write(row, answer)

    def _question(self, row: Row) -> Question[Replacement]:
        caption = one_line(row["input_caption"] or "")
        categories = list(_best(row))
        return Question(
            row["id"],
            self.prompt.messages(caption=caption, categories=", ".join(categories)),
            replacement_schema(categories),
            lambda reply: parse_replacement(reply, caption=caption, categories=categories),
        )

    def _write(self, row: Row, answer: Replacement) -> None:
        detection = _best(row)[answer.selected_category]
        row["selected_category"] = answer.selected_category
        row["target_category"] = answer.target_category
        row["box"] = list(detection["box"])
        add_scores(row, detection=detection["score"])
        row["instruction"] = answer.candidate.instruction
        row["rationale"] = answer.candidate.rationale
        row["reasoning_type"] = answer.candidate.reasoning_type
        row["edited_caption"] = answer.edited_caption
        row["direct_instruction"] = direct_instruction(
            answer.selected_category,
            answer.target_category,
            answer.edited_caption,
            seed=sample_seed(self.seed, row["id"], "propose.direct"),
        )


def _best(row: Row) -> dict[str, Detection]:
    """Each category's best detection, in the order they were found."""
    found: dict[str, Detection] = {}
    for detection in row["detections"] or []:
        known = found.get(detection["category"])
        if known is None or detection["score"] > known["score"]:
            found[detection["category"]] = detection
    return found

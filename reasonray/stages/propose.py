"""Parts II and III: what is replaced by what, and the reasoning instruction (P_replace, Eq. 6)."""

from reasonray.core.record import Detection, Row, add_scores, reject, sample_seed
from reasonray.prompts.direct import direct_instruction
from reasonray.prompts.examples import varied
from reasonray.prompts.objects import listed
from reasonray.prompts.replies import Replacement, parse_replacement, replacement_schema
from reasonray.prompts.template import one_line
from reasonray.prompts.words import mentions
from reasonray.stages.asks import Asks
from reasonray.stages.exchange import Question


class Propose(Asks[Replacement]):
    """Offers the detected categories; the direct instruction is ours, from several templates."""

    name = "propose"
    parts = ("II", "III")
    reads = {
        "input_caption": "caption of the input image",
        "detections": "what was found in it; at least one",
        "source_categories": "what the source says is in it, or null",
    }
    writes = {
        "selected_category": "one of the detected categories",
        "target_category": "what takes its place; lower case, no article",
        "detection_box": "xyxy pixels of input_image, of the selected category",
        "scores.detection": "of that box, 0..1",
        "instruction": "names neither of the two",
        "rationale": "one sentence from the instruction to the target",
        "reasoning_type": "one of record.REASONING_TYPES",
        "edited_caption": "the caption after the edit",
        "direct_instruction": "the plain sentence for the edit",
    }
    rejects = {
        **Asks.rejects,
        "no_text": "the image has no caption",
        "no_object": "no category was found in the image",
        "category_not_offered": "every reply selected something that was not found in the image",
        "unfit_target": "every reply's target was in the image already, or no other kind of thing",
        "not_indirect": "every reply named the target or the selected category",
    }

    def question(self, row: Row) -> Question[Replacement] | None:
        """A replacement of one detected category; rejects a row without any, or a caption."""
        caption = one_line(row.get("input_caption") or "")
        best = _best(row)
        categories = list(best)
        if not caption:
            reject(row, self.name, "no_text", "the caption is empty")
            return None
        if not categories:
            reject(row, self.name, "no_object", "there is nothing to offer")
            return None
        several = [name for name, each in best.items() if each.get("qualifier")]
        return Question(
            self.prompt.messages(
                caption=caption,
                categories=", ".join(categories),
                objects=listed({name: _about(each, row) for name, each in best.items()}),
                **varied("replace", sample_seed(self.seed, row["id"], "propose.examples")),
            ),
            replacement_schema(),
            lambda text: parse_replacement(
                text, caption=caption, categories=categories, several=several
            ),
        )

    def answered(self, row: Row, reply: Replacement) -> None:
        """Write the replacement, with the selected category's box and our direct instruction."""
        detection = _best(row)[reply.selected_category]
        row["selected_category"] = reply.selected_category
        row["target_category"] = reply.target_category
        row["detection_box"] = list(detection["box"])
        add_scores(row, detection=detection["score"])
        row["instruction"] = reply.candidate.instruction
        row["rationale"] = reply.candidate.rationale
        row["reasoning_type"] = reply.candidate.reasoning_type
        row["edited_caption"] = reply.edited_caption
        row["direct_instruction"] = direct_instruction(
            reply.selected_category,
            reply.target_category,
            reply.edited_caption,
            seed=sample_seed(self.seed, row["id"], "propose.direct"),
            input_caption=row["input_caption"] or "",
            qualifier=detection.get("qualifier"),
        )


def _about(detection: Detection, row: Row) -> str | None:
    """What is told of a detection; one that only its source names has no place in the caption."""
    about = detection.get("about")
    caption = row.get("input_caption") or ""
    if not row.get("source_categories") or mentions(caption, detection["category"]):
        return about
    unnamed = "not in the caption: add the target to that"
    return f"{about}, {unnamed}" if about else unnamed


def _best(row: Row) -> dict[str, Detection]:
    """Each category's best detection, in the order they were found."""
    best: dict[str, Detection] = {}
    for detection in row.get("detections") or []:
        known = best.get(detection["category"])
        if known is None or detection["score"] > known["score"]:
            best[detection["category"]] = detection
    return best

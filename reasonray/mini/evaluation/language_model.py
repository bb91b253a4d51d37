"""Are the language model's first replies valid, indirect, right, and not always the same?

Through the stages, which are not allowed to ask again.
"""

import random
import re

from reasonray.core.recipe import Recipe
from reasonray.core.record import Detection, Row, sample_id
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import held_out, through
from reasonray.mini.knowledge import facts, knowledge, related
from reasonray.prompts.direct import direct_instruction
from reasonray.prompts.objects import described
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import IMAGE_SIZE, Scene, caption, replaced
from reasonray.stages.propose import Propose
from reasonray.stages.rewrite import Rewrite
from reasonray.stages.select import Select

BATCH = 32

NUM_DISTINCT = 1000
"""Replies among which repeated instructions are counted."""

ONCE = {"num_retries": 0}


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """P_replace, P_gen and P_select, `count` times each."""
    stages, model, seed = recipe.stages, recipe.language_model, recipe.seed
    propose = Propose(stages.propose.model_copy(update=ONCE), model, seed=seed)
    rewrite = Rewrite(stages.rewrite.model_copy(update=ONCE), model, seed=seed)
    select = Select(stages.select.model_copy(update=ONCE), model, seed=seed)

    photos = [_photo(scene, i) for i, scene in enumerate(held_out(max(count, NUM_DISTINCT)))]
    proposed = through(propose, photos, BATCH)
    pairs = [_pair(scene, i) for i, scene in enumerate(held_out(count))]
    rewritten = through(rewrite, pairs, BATCH)
    written = [row for row in rewritten if row.get("stage") is None]
    selected = through(select, written, BATCH)

    direct = sum(row.get("reason") == "not_indirect" for row in [*proposed, *rewritten])
    every = [*proposed, *rewritten, *selected]
    invalid = sum(row.get("stage") is not None for row in every) - direct
    fine = [row for row in proposed if row.get("stage") is None]
    instructions = [row["instruction"] or "" for row in fine][:NUM_DISTINCT]
    distinct = 1000 * len(set(instructions)) / max(1, len(instructions))
    reads_right = sum(_fits(row["instruction"] or "", row) for row in fine)
    reads_right += sum(_fits(text, row) for row in written for text in row["candidates"] or [])
    num_read = len(fine) + sum(len(row["candidates"] or []) for row in written)
    captions = sum(row["edited_caption"] == _true_caption(row) for row in fine)
    num_written = len(proposed) + len(rewritten)
    return [
        share("language model: first reply is valid", len(every) - invalid, len(every), 0.98),
        share("language model: first reply is indirect", num_written - direct, num_written, 0.98),
        Measurement("distinct instructions per 1,000", distinct, 700, True, len(instructions)),
        share("instruction fits its target", reads_right, num_read),
        share("edited caption is the true one", captions, len(fine)),
    ]


def _photo(scene: Scene, index: int) -> Row:
    """A scene as `propose` receives it."""
    detections = [
        Detection(
            category=item.category,
            box=[*map(float, item.box)],
            score=0.9,
            about=described(item.box, (IMAGE_SIZE, IMAGE_SIZE)),
        )
        for item in scene.objects
    ]
    return {
        "id": sample_id("III", "evaluation", str(index)),
        "part": "III",
        "input_caption": caption(scene),
        "detections": detections,
    }


def _pair(scene: Scene, index: int) -> Row:
    """A scene and an edit of it, as `rewrite` receives them."""
    rng = random.Random(index)
    place = rng.randrange(len(scene.objects))
    old = scene.categories[place]
    new = rng.choice([name for name in CATEGORIES if name not in scene.categories])
    after = caption(replaced(scene, place, new))
    return {
        "id": sample_id("I", "evaluation", str(index)),
        "part": "I",
        "input_caption": caption(scene),
        "edited_caption": after,
        "direct_instruction": direct_instruction(old, new, after, seed=index),
        "selected_category": old,
        "target_category": new,
    }


def _fits(instruction: str, row: Row) -> bool:
    """Whether it tells a fact of the target, or a relation that leads to it."""
    selected, target = row["selected_category"] or "", row["target_category"] or ""
    if selected not in CATEGORIES or target not in CATEGORIES:
        return False
    text = instruction.lower()
    if any(fact.lower() in text for _, fact in facts(target)):
        return True
    return any(
        re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(sentence.lower())), text)
        for relation in related(selected, target)
        for sentence in knowledge()["relations"][relation]["sentences"]
    )


def _true_caption(row: Row) -> str:
    """The caption with the one object's phrase in place of the other's."""
    old, new = (CATEGORIES.get(row[key] or "") for key in ("selected_category", "target_category"))
    return (row["input_caption"] or "").replace(old.phrase, new.phrase, 1) if old and new else ""

"""Are the language model's first replies valid, indirect, right, and not always the same?

Through the stages, which are not allowed to ask again.
"""

import random
import re
from collections.abc import Iterator
from itertools import count as count_from
from itertools import islice

from reasonray.core.recipe import Recipe
from reasonray.core.record import Row, sample_id
from reasonray.core.sections import GroundConfig
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import FIRST_SEED, SCENERIES, through
from reasonray.mini.knowledge import facts, knowledge, related
from reasonray.models.detector import PhraseBox
from reasonray.prompts.direct import direct_instruction
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import (
    PLAIN,
    Scene,
    Scenery,
    caption,
    pointed_out,
    replaced,
    sample_scene,
)
from reasonray.stages.instances import offered
from reasonray.stages.propose import Propose
from reasonray.stages.rewrite import Rewrite
from reasonray.stages.select import Select

BATCH = 32

NUM_DISTINCT = 1000
"""Replies among which repeated instructions are counted."""

ONCE = {"num_retries": 0}

TARGETS = (0.98, 0.98, 700)
"""On plain scenes: valid, indirect, distinct instructions."""


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """P_replace, P_gen and P_select, `count` times each, on plain scenes and on real ones."""
    stages, model, seed = recipe.stages, recipe.language_model, recipe.seed
    propose = Propose(stages.propose.model_copy(update=ONCE), model, seed=seed)
    rewrite = Rewrite(stages.rewrite.model_copy(update=ONCE), model, seed=seed)
    select = Select(stages.select.model_copy(update=ONCE), model, seed=seed)
    results: list[Measurement] = []
    for label, scenery in SCENERIES.items():
        photos = list(islice(_photos(recipe.stages.ground, scenery), max(count, NUM_DISTINCT)))
        proposed = through(propose, [row for _, row in photos], BATCH)
        rewritten = through(rewrite, list(islice(_pairs(scenery), count)), BATCH)
        written = [row for row in rewritten if row.get("stage") is None]
        selected = through(select, written, BATCH)
        captions = [
            row["edited_caption"] == _true_caption(scene, row)
            for (scene, _), row in zip(photos, proposed, strict=True)
            if row.get("stage") is None
        ]
        targets = TARGETS if scenery == PLAIN else (None, None, None)
        results += _figures(label, proposed, rewritten, selected, targets)
        name = f"{label}edited caption is the true one"
        results.append(share(name, sum(captions), len(captions)))
    return results


def _figures(
    label: str,
    proposed: list[Row],
    rewritten: list[Row],
    selected: list[Row],
    targets: tuple[float | None, float | None, float | None],
) -> list[Measurement]:
    written = [row for row in rewritten if row.get("stage") is None]
    direct = sum(row.get("reason") == "not_indirect" for row in [*proposed, *rewritten])
    every = [*proposed, *rewritten, *selected]
    invalid = sum(row.get("stage") is not None for row in every) - direct
    fine = [row for row in proposed if row.get("stage") is None]
    instructions = [row["instruction"] or "" for row in fine][:NUM_DISTINCT]
    distinct = 1000 * len(set(instructions)) / max(1, len(instructions))
    reads_right = sum(_fits(row["instruction"] or "", row) for row in fine)
    reads_right += sum(_fits(text, row) for row in written for text in row["candidates"] or [])
    num_read = len(fine) + sum(len(row["candidates"] or []) for row in written)
    num_written = len(proposed) + len(rewritten)
    valid, indirect, least_distinct = targets
    return [
        share(
            f"{label}language model: first reply is valid", len(every) - invalid, len(every), valid
        ),
        share(
            f"{label}language model: first reply is indirect",
            num_written - direct,
            num_written,
            indirect,
        ),
        Measurement(
            f"{label}distinct instructions per 1,000",
            distinct,
            least_distinct,
            True,
            len(instructions),
        ),
        share(f"{label}instruction fits its target", reads_right, num_read),
    ]


def _photos(config: GroundConfig, scenery: Scenery) -> Iterator[tuple[Scene, Row]]:
    """Scenes as `propose` receives them from a detector that finds all that is there."""
    for index in count_from(0):
        scene = sample_scene(FIRST_SEED + index, scenery=scenery)
        boxes = [PhraseBox(item.category, scene.visible(item), 0.9) for item in scene.objects]
        detections = offered(boxes, (scene.width, scene.height), config, caption(scene))
        if detections:
            yield (
                scene,
                {
                    "id": sample_id("III", "evaluation", str(index)),
                    "part": "III",
                    "input_caption": caption(scene),
                    "detections": detections,
                },
            )


def _pairs(scenery: Scenery) -> Iterator[Row]:
    """Scenes, each with an edit of it, as `rewrite` receives them."""
    for index in count_from(0):
        scene, rng = sample_scene(FIRST_SEED + index, scenery=scenery), random.Random(index)
        wordings = {
            place: wording
            for place, name in enumerate(scene.categories)
            if name in CATEGORIES and (wording := pointed_out(scene, place)) is not None
        }
        if not wordings:
            continue
        place = list(wordings)[rng.randrange(len(wordings))]
        new = rng.choice([name for name in CATEGORIES if name not in scene.categories])
        after = caption(replaced(scene, place, new))
        yield {
            "id": sample_id("I", "evaluation", str(index)),
            "part": "I",
            "input_caption": caption(scene),
            "edited_caption": after,
            "direct_instruction": direct_instruction(wordings[place], new, after, seed=index),
            "selected_category": scene.categories[place],
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


def _true_caption(scene: Scene, row: Row) -> str:
    """The caption of the scene with the one object in place of the other."""
    target = row["target_category"] or ""
    places = [
        place
        for place, item in enumerate(scene.objects)
        if item.category == row["selected_category"]
        and list(scene.visible(item)) == row["detection_box"]
    ]
    return caption(replaced(scene, places[0], target)) if target in CATEGORIES else ""

"""Does each stage find what it reads? Answered from what they declare, before any is loaded."""

from collections.abc import Iterable, Sequence

from reasonray.core.record import PLAN_SCHEMA
from reasonray.stages.stage import Stage


def check_wiring(stages: Sequence[type[Stage]], parts: Iterable[str]) -> None:
    """Refuse stages of which one reads what is not written before it.

    Args:
        stages: in the pipeline's order.
        parts: whose rows they get.

    Raises:
        AssertionError: a mistake of ours; names the stage, the field and the part.
    """
    for part in parts:
        written = set(PLAN_SCHEMA.names)
        for stage in stages:
            if part not in stage.parts:
                continue
            for field in stage.reads:
                if field not in written:
                    raise AssertionError(
                        f"stage {stage.name}: reads {field}, which neither the plan nor an "
                        f"earlier stage of Part {part} writes; mend its `reads` or their `writes`"
                    )
            written.update(stage.writes)

import json
import re

import pytest
from lying_server import Answer, LyingServer

from reasonray.core.record import Row
from reasonray.core.sections import LanguageModelConfig, ModelConfig, SelectConfig, ServerConfig
from reasonray.stages.select import Select


def stage(server: LyingServer) -> Select:
    language_model = LanguageModelConfig(
        model=ModelConfig(name="liar"), server=ServerConfig(base_url=server.url)
    )
    return Select(SelectConfig(num_retries=1), language_model, seed=3)


def row(candidates: list[str]) -> Row:
    return {
        "id": "I/test/x/0",
        "part": "I",
        "source": "test",
        "source_id": "x",
        "input_caption": "a candle on a desk",
        "edited_caption": "a lamp on a desk",
        "direct_instruction": "replace the candle with a lamp",
        "candidates": candidates,
        "candidate_rationales": [f"Why {text}" for text in candidates],
        "candidate_reasoning_types": ["temporal", "causal", "logical"][: len(candidates)],
    }


def choice(number: int) -> Answer:
    return Answer(json.dumps({"choice": number, "reason": "It is the best."}))


def shown(prompt: str) -> list[str]:
    """The candidates in the order of a question."""
    return re.findall(r"^\d\. (.*)$", prompt, re.MULTILINE)


CANDIDATES = ["A century passes.", "No wax.", "No flame."]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_chosen_candidate_becomes_the_instruction(
    lying_server: LyingServer, number: int
) -> None:
    lying_server.answer = lambda body, count: choice(number)
    done = stage(lying_server)([row(CANDIDATES)])[0]
    chosen = shown(lying_server.prompts()[0])[number - 1]
    assert done["instruction"] == chosen
    assert done["rationale"] == f"Why {chosen}"
    kinds = dict(zip(CANDIDATES, ["temporal", "causal", "logical"], strict=True))
    assert done["reasoning_type"] == kinds[chosen]
    assert done["candidates"] == CANDIDATES


def test_the_candidates_are_shown_in_an_order_of_the_row_s_own(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: choice(1)
    rows = [{**row(CANDIDATES), "id": f"I/test/{i}/0"} for i in range(30)]
    stage(lying_server)(rows)  # type: ignore[arg-type]
    orders = [shown(prompt) for prompt in lying_server.prompts()]
    assert all(sorted(order) == sorted(CANDIDATES) for order in orders)
    assert {order[0] for order in orders} == set(CANDIDATES)
    stage(lying_server)(rows[:1])  # type: ignore[arg-type]
    assert shown(lying_server.prompts()[-1]) in orders


def test_a_single_candidate_is_taken_without_asking(lying_server: LyingServer) -> None:
    done = stage(lying_server)([row(["No wax."])])[0]
    assert done["instruction"] == "No wax."
    assert lying_server.seen == []


def test_a_number_out_of_range_is_asked_for_again_with_some_warmth(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lambda body, count: choice(2 if count else 4)
    done = stage(lying_server)([row(["a b", "c d", "e f"])])[0]
    assert done["instruction"] == shown(lying_server.prompts()[0])[1]
    first, second = (seen.body["temperature"] for seen in lying_server.seen)
    assert (first, second > 0) == (0, True)


def test_a_model_that_never_chooses_has_the_row_rejected(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer("The first one is nice.")
    done = stage(lying_server)([row(["a b", "c d"])])[0]
    assert (done["stage"], done["reason"]) == ("select", "invalid_reply")
    assert "instruction" not in done

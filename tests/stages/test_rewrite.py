import json
from typing import Any

import pytest
from lying_server import Answer, LyingServer

from reasonray.core.record import Row
from reasonray.core.sections import LanguageModelConfig, ModelConfig, RewriteConfig, ServerConfig
from reasonray.stages.rewrite import Rewrite


def stage(server: LyingServer, num_candidates: int = 2) -> Rewrite:
    language_model = LanguageModelConfig(
        model=ModelConfig(name="liar"), server=ServerConfig(base_url=server.url)
    )
    config = RewriteConfig(num_candidates=num_candidates, num_retries=1)
    return Rewrite(config, language_model, seed=3)


def row(name: str = "x", **fields: Any) -> Row:
    return {
        "id": f"I/test/{name}/0",
        "part": "I",
        "source": "test",
        "source_id": name,
        "input_caption": "a candle on a desk",
        "edited_caption": "a lamp on a desk",
        "direct_instruction": "replace the candle with a lamp",
        **fields,  # type: ignore[typeddict-item]
    }


def reply(*instructions: str) -> Answer:
    listed = [
        {"instruction": text, "rationale": f"Why {text}", "reasoning_type": "temporal"}
        for text in instructions
    ]
    return Answer(json.dumps({"candidates": listed}))


def test_the_candidates_are_written_in_order_with_rationales_and_types(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lambda body, count: reply("A century passes.", "Flames are forbidden.")
    done = stage(lying_server)([row()])[0]
    assert done["candidates"] == ["A century passes.", "Flames are forbidden."]
    assert done["candidate_rationales"] == ["Why A century passes.", "Why Flames are forbidden."]
    assert done["candidate_reasoning_types"] == ["temporal", "temporal"]
    assert done["provenance"]["prompts"][0]["name"] == "P_gen"
    assert "Write 2 different instructions." in lying_server.prompts()[0]


def test_candidates_that_name_what_comes_in_are_asked_for_again_where_one_is_left(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lambda body, count: reply(
        "A century passes.", ["Two lamps!", "No wax."][count]
    )
    done = stage(lying_server)([row()])[0]
    assert done["candidates"] == ["A century passes.", "No wax."]
    assert '"lamps"' in lying_server.seen[1].body["messages"][-1]["content"]


def test_good_candidates_are_kept_without_the_bad_ones(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: reply("Two lamps!", "No wax.", "A century passes.")
    done = stage(lying_server, num_candidates=3)([row()])[0]
    assert done["candidates"] == ["No wax.", "A century passes."]
    assert len(lying_server.seen) == 1


def test_what_the_picture_shows_already_may_be_named(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: reply("Spare the desk the wax.", "No candles here.")
    assert stage(lying_server)([row()])[0].get("reason") is None


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["A lamp please.", "No wax."], "not_indirect"),
        (["No wax."], "invalid_reply"),
        (["No wax.", "no wax!"], "invalid_reply"),
    ],
)
def test_a_model_that_does_not_learn_from_the_reason_has_the_row_rejected(
    lying_server: LyingServer, texts: list[str], reason: str
) -> None:
    lying_server.answer = lambda body, count: reply(*texts)
    done = stage(lying_server)([row()])[0]
    assert (done["stage"], done["reason"]) == ("rewrite", reason)
    assert "last of 2 tries" in (done["detail"] or "")
    assert "candidates" not in done


@pytest.mark.parametrize("field", ["input_caption", "edited_caption", "direct_instruction"])
def test_a_pair_without_its_texts_is_rejected_alone(lying_server: LyingServer, field: str) -> None:
    lying_server.answer = lambda body, count: reply("A century passes.", "No wax.")
    first, second = stage(lying_server)([row("a", **{field: " "}), row("b")])
    assert first["reason"] == "no_text"
    assert second["candidates"]


@pytest.mark.parametrize("field", ["input_caption", "edited_caption", "direct_instruction"])
def test_a_pair_in_another_language_is_rejected_unasked(
    lying_server: LyingServer, field: str
) -> None:
    done = stage(lying_server)([row(**{field: "eine Kerze auf einem Tisch"})])[0]
    assert (done["stage"], done["reason"]) == ("rewrite", "not_english")
    assert "must be English" in (done["detail"] or "")
    assert lying_server.seen == []


def test_only_part_one_is_rewritten(lying_server: LyingServer) -> None:
    assert stage(lying_server)([row(part="II")]) == [row(part="II")]
    assert lying_server.seen == []

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from lying_server import Answer, LyingServer

from reasonray.core.errors import RunError
from reasonray.core.record import Row
from reasonray.core.sections import LanguageModelConfig, ModelConfig, ProposeConfig, ServerConfig
from reasonray.models import openai_server
from reasonray.prompts.template import load
from reasonray.stages.propose import Propose

RETRIES = 2

GOOD = {
    "selected_category": "butterfly",
    "target_category": "bee",
    "instruction": "This time the visitor lives in a hive.",
    "rationale": "Who visits flowers and lives in a hive is a bee.",
    "reasoning_type": "knowledge",
    "edited_caption": "a bee on a flower",
}


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "FIRST_WAIT_S", 0.01)


def stage(server: LyingServer, **settings: Any) -> Propose:
    language_model = LanguageModelConfig(
        model=ModelConfig(name="liar"),
        server=ServerConfig(base_url=server.url, timeout_s=2.0, max_attempts=3),
        **settings,
    )
    return Propose(ProposeConfig(num_retries=RETRIES), language_model, seed=3)


def row(name: str, **fields: Any) -> Row:
    """A row whose caption tells the server how to lie."""
    found = [
        {"category": "butterfly", "box": [1.0, 2.0, 30.0, 40.0], "score": 0.5},
        {"category": "flower", "box": [0.0, 20.0, 60.0, 64.0], "score": 0.9},
        {"category": "butterfly", "box": [5.0, 6.0, 35.0, 45.0], "score": 0.75},
    ]
    return {
        "id": f"III/test/{name}/0",
        "part": "III",
        "source": "test",
        "source_id": name,
        "input_caption": f"a butterfly on a flower, {name}",
        "detections": found,
        **fields,  # type: ignore[typeddict-item]
    }


def good(**changes: Any) -> Answer:
    return Answer(json.dumps({**GOOD, **changes}))


LIES: dict[str, tuple[Callable[[int], Answer], str | None]] = {
    "honest": (lambda count: good(), None),
    "bad JSON": (lambda count: Answer("{'selected': butterfly"), "invalid_reply"),
    "not offered": (lambda count: good(selected_category="leaf"), "category_not_offered"),
    "named": (lambda count: good(instruction="Put two bees there."), "not_indirect"),
    "in the picture": (lambda count: good(target_category="flower"), "unfit_target"),
    "empty": (lambda count: Answer(""), "invalid_reply"),
    "hangs": (lambda count: Answer(hangs=True), "lm_failed"),
    "429 then fine": (
        lambda count: good() if count else Answer(status=429, headers={"Retry-After": "0.2"}),
        None,
    ),
    "500 forever": (lambda count: Answer(status=500), "lm_failed"),
    "wrong then right": (lambda count: good() if count else Answer("Let me think."), None),
}


def lie(body: dict[str, Any], count: int) -> Answer:
    question = next(m["content"] for m in body["messages"] if m["role"] == "user")
    caption = question.splitlines()[0].removeprefix("Caption: ")
    answer = LIES.get(caption.rpartition(", ")[2], LIES["honest"])[0](count)
    edited = caption.replace("butterfly", "bee")
    answer.content = answer.content and answer.content.replace(GOOD["edited_caption"], edited)
    return answer


@pytest.mark.slow
def test_each_lie_ends_as_it_should_and_no_row_is_lost(lying_server: LyingServer) -> None:
    lying_server.answer = lie
    rows = [row(name) for name in LIES]
    done = stage(lying_server)(rows)
    assert [item["source_id"] for item in done] == list(LIES)
    assert {item["source_id"]: item.get("reason") for item in done} == {
        name: reason for name, (_, reason) in LIES.items()
    }
    for item in done:
        if item.get("reason"):
            assert item["stage"] == "propose"
            assert item["detail"]
        else:
            assert item["target_category"] == "bee"


def test_only_rows_with_an_invalid_reply_are_asked_again_and_with_the_reason(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lie
    stage(lying_server)([row("honest"), row("wrong then right"), row("named")])
    asked = [prompt.splitlines()[0].rpartition(", ")[2] for prompt in lying_server.prompts()]
    assert sorted(asked) == ["honest", *["named"] * (RETRIES + 1), *["wrong then right"] * 2]
    again = [seen.body["messages"] for seen in lying_server.seen if len(seen.body["messages"]) > 2]
    for messages in again:
        assert [turn["role"] for turn in messages] == ["system", "user", "assistant", "user"]
    reasons = [messages[3]["content"] for messages in again]
    assert any('with the word "bees"' in reason for reason in reasons)
    assert any("no JSON object" in reason for reason in reasons)


def test_each_attempt_has_a_seed_of_its_own_that_batch_mates_do_not_change(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lie
    stage(lying_server)([row("bad JSON"), row("honest")])
    together = [seen.body["seed"] for seen in lying_server.seen if "bad JSON" in seen.prompt]
    lying_server.seen.clear()
    stage(lying_server)([row("bad JSON")])
    alone = [seen.body["seed"] for seen in lying_server.seen]
    assert alone == together
    assert len(set(alone)) == RETRIES + 1


def test_the_best_box_of_the_selected_category_and_our_direct_instruction_are_written(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lie
    done = stage(lying_server)([row("honest", scores={"divergence": 0.5})])[0]
    assert done["detection_box"] == [5.0, 6.0, 35.0, 45.0]
    assert done["scores"] == {"divergence": 0.5, "detection": 0.75}
    assert done["selected_category"] == "butterfly"
    assert done["edited_caption"] == "a bee on a flower, honest"
    assert done["instruction"] == GOOD["instruction"]
    assert done["rationale"] == GOOD["rationale"]
    assert done["reasoning_type"] == "knowledge"
    direct = done["direct_instruction"]
    assert direct is not None
    assert "a bee" in direct
    assert "butterfly" in direct
    assert direct == stage(lying_server)([row("honest")])[0]["direct_instruction"]


def test_direct_instructions_vary_from_row_to_row(lying_server: LyingServer) -> None:
    lying_server.answer = lie
    done = stage(lying_server)([row(f"row {i}") for i in range(30)])
    assert len({item["direct_instruction"] for item in done}) > 3


def test_the_detected_categories_are_offered_once_each(lying_server: LyingServer) -> None:
    lying_server.answer = lie
    stage(lying_server)([row("honest")])
    seen = lying_server.seen[0]
    assert "Categories: butterfly, flower\n" in seen.prompt
    schema = seen.body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["selected_category"] == {"type": "string"}


def test_models_and_prompts_are_written_into_the_row(lying_server: LyingServer) -> None:
    lying_server.answer = lie
    provenance = stage(lying_server)([row("honest")])[0]["provenance"]
    assert provenance["models"] == [{"stage": "propose", "name": "liar", "revision": None}]
    assert [prompt["name"] for prompt in provenance["prompts"]] == ["P_replace", "P_again"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"input_caption": None}, "no_text"), ({"detections": []}, "no_object")],
)
def test_a_row_with_nothing_to_ask_about_is_rejected_unasked(
    lying_server: LyingServer, fields: dict[str, Any], reason: str
) -> None:
    done = stage(lying_server)([row("honest", **fields)])
    assert done[0]["reason"] == reason
    assert lying_server.seen == []


def test_a_refused_key_stops_the_run_and_rejects_nothing(lying_server: LyingServer) -> None:
    lying_server.answer = lambda body, count: Answer(status=401, error={"message": "bad key"})
    rows = [row("honest"), row("named")]
    with pytest.raises(RunError, match="OPENAI_API_KEY"):
        stage(lying_server)(rows)
    assert all("stage" not in item for item in rows)


def test_rows_of_part_one_pass_untouched(lying_server: LyingServer) -> None:
    first = row("honest", part="I")
    assert stage(lying_server)([first]) == [row("honest", part="I")]


def test_one_of_several_is_offered_and_named_by_its_word_and_the_others_stay(
    lying_server: LyingServer,
) -> None:
    edited = "a bee and a butterfly on a flower"
    lying_server.answer = lambda body, count: good(edited_caption=edited)
    box = [1.0, 2.0, 30.0, 40.0]
    detection = {
        "category": "butterfly", "box": box, "score": 0.5,
        "qualifier": "left", "num_instances": 2, "about": "the left one of 2, 9 % of the picture",
    }  # fmt: skip
    pair = row("pair", input_caption="two butterflies on a flower", detections=[detection])
    done = stage(lying_server)([pair])[0]
    assert "left butterfly" in (done["direct_instruction"] or "")
    assert done["edited_caption"] == edited
    assert (done["selected_category"], done["detection_box"]) == ("butterfly", box)
    objects = "Objects: butterfly (the left one of 2, 9 % of the picture)\n"
    assert objects in lying_server.prompts()[0]


def test_examples_and_the_wanted_kind_of_reasoning_vary_from_row_to_row(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lie
    stage(lying_server)([row(f"row {i}") for i in range(20)])
    systems = {seen.body["messages"][0]["content"] for seen in lying_server.seen}
    wanted = {re.findall("wanted, if it fits: (.*)", seen.prompt)[0] for seen in lying_server.seen}
    assert len(systems) == 20
    assert len(wanted) > 3
    rules = load("replace").system.partition("$examples")[0]
    assert all(system.startswith(rules) for system in systems), "what servers can cache"
    stage(lying_server)([row("row 3")])
    assert lying_server.seen[-1].body["messages"][0]["content"] in systems


def test_what_the_source_alone_names_has_its_place_in_the_caption_told(
    lying_server: LyingServer,
) -> None:
    edited = "a butterfly on a flower with a bee"
    answer = good(selected_category="flower pot", edited_caption=edited)
    lying_server.answer = lambda body, count: answer
    boxes = [
        {"category": "butterfly", "box": [1.0, 2.0, 30.0, 40.0], "score": 0.5, "about": "tall"},
        {"category": "flower pot", "box": [1.0, 2.0, 30.0, 40.0], "score": 0.5, "about": "wide"},
    ]
    caption, known = "a butterfly on a flower", ["flower pot"]
    told = row("told", input_caption=caption, detections=boxes, source_categories=known)
    done = stage(lying_server)([told, row("plain", input_caption=caption, detections=boxes)])
    assert (done[0]["selected_category"], done[0]["edited_caption"]) == ("flower pot", edited)
    with_place, without = sorted(lying_server.prompts(), key=len, reverse=True)
    place = "flower pot (wide, not in the caption: add the target to that)"
    assert f"Objects: butterfly (tall), {place}\n" in with_place
    assert "Objects: butterfly (tall), flower pot (wide)\n" in without

import contextlib
import functools
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonray.core.record import REASONING_TYPES
from reasonray.prompts.replies import (
    MAX_CHARACTERS,
    ReplyError,
    candidates_schema,
    choice_schema,
    parse_candidates,
    parse_choice,
    parse_replacement,
    parse_verdict,
    replacement_schema,
    verdict_form,
    verdict_schema,
)

CAPTION = "a butterfly on a pink flower"
REPLACEMENT = {
    "selected_category": "butterfly",
    "target_category": "bee",
    "instruction": "Let the visitor belong to a hive.",
    "rationale": "Hives belong to bees.",
    "reasoning_type": "knowledge",
    "edited_caption": "a bee on a pink flower",
}


def replacement(reply: str) -> Any:
    return parse_replacement(reply, caption=CAPTION, categories=["flower", "butterfly"])


def with_(**changes: object) -> str:
    return json.dumps({**REPLACEMENT, **changes})


def candidates(*instructions: str, count: int = 2) -> Any:
    listed = [
        {"instruction": text, "rationale": "Because.", "reasoning_type": "causal"}
        for text in instructions
    ]
    return parse_candidates(
        json.dumps({"candidates": listed}),
        num_candidates=count,
        input_caption=CAPTION,
        edited_caption="a bee on a pink flower",
        direct_instruction="turn the butterfly into a bee",
    )


def code_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ReplyError) as caught:
        call(*args, **kwargs)
    assert caught.value.reason.endswith(".")
    return caught.value.code


@pytest.mark.parametrize(
    "wrapped",
    ["{}", "```json\n{}\n```", "Here you are:\n{}", "Sure!\n```\n{}\n```\n", "  {}\n"],
)
def test_a_fence_or_leading_prose_around_the_object_passes(wrapped: str) -> None:
    parsed = replacement(wrapped.replace("{}", with_()))
    assert parsed.selected_category == "butterfly"
    assert parsed.target_category == "bee"
    assert parsed.candidate.instruction == REPLACEMENT["instruction"]
    assert parsed.candidate.reasoning_type == "knowledge"
    assert parsed.edited_caption == "a bee on a pink flower"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot do that.",
        "[1, 2]",
        with_()[:-20],
        with_().replace('"bee"', '"bee", "target_category": "wasp"'),
        with_().replace('"bee"', "NaN"),
        with_(target_category=None),
        with_(target_category=["bee"]),
        with_(instruction=""),
        with_(instruction="Buzz!"),
        with_(instruction="word " * 100),
        with_(rationale="x" * (MAX_CHARACTERS + 1)),
        with_(rationale="a \ud800 b"),
        with_(rationale="a \u0007 b"),
        with_(reasoning_type="vibes"),
        with_(reasoning_type="causal or temporal"),
        with_(instruction="让时间慢慢改变那里的东西 吧"),
        with_(instruction="Lass die Zeit vergehen und sieh, was dann dort steht."),
        with_(edited_caption=" "),
        with_(edited_caption="a wasp on a pink flower"),
        '{"a":' * 100_000,
    ],
)
def test_what_is_not_exactly_the_form_is_invalid(reply: str) -> None:
    assert code_of(replacement, reply) == "invalid_reply"


def test_a_category_that_was_not_offered_is_told_with_those_that_were() -> None:
    with pytest.raises(ReplyError, match=r'"leaf" is not one of: flower, butterfly') as caught:
        replacement(with_(selected_category="leaf"))
    assert caught.value.code == "category_not_offered"


def test_the_selected_category_comes_back_as_it_was_offered() -> None:
    parsed = parse_replacement(
        with_(selected_category="fire-truck", target_category="bus",
              edited_caption="a bus on a road", instruction="Take forty pupils to school."),
        caption="a fire truck on a road", categories=["Fire truck"],
    )  # fmt: skip
    assert parsed.selected_category == "Fire truck"


@pytest.mark.parametrize(
    "target",
    ["butterfly", "Butterflies", "a monarch butterfly", "flower", "pink flowers", "!!",
     "one two three four five six"],
)  # fmt: skip
def test_a_target_that_is_no_different_thing_is_unfit(target: str) -> None:
    reply = with_(target_category=target, edited_caption=f"{target} on a flower")
    assert code_of(replacement, reply) == "unfit_target"


def test_a_target_that_the_caption_holds_already_is_unfit() -> None:
    reply = with_(target_category="flower", edited_caption="a flower on a flower")
    call = {"caption": CAPTION, "categories": ["butterfly"]}
    assert code_of(parse_replacement, reply, **call) == "unfit_target"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("beekeeper's daughter", "is a person"),
        ("astronaut", "is a person"),
        ("women", "is a person"),
        ("happiness", "cannot be seen"),
        ("eternal love", "cannot be seen"),
        ("insect", "is a kind of"),
        ("glass butterfly", "is the same as"),
    ],
)
def test_people_ideas_and_kinds_of_the_selected_are_unfit(target: str, reason: str) -> None:
    reply = with_(target_category=target, edited_caption=f"a {target} on a pink flower")
    with pytest.raises(ReplyError, match=reason) as caught:
        replacement(reply)
    assert caught.value.code == "unfit_target"


@pytest.mark.parametrize(
    "edited_caption",
    [
        "a bee beside a butterfly on a pink flower",
        "a bee in a spaceship on a pink flower, trending on artstation",
        "a bee on a flower",
        "a bee",
        "a bee on a pink butterfly",
    ],
)
def test_an_edited_caption_says_what_the_caption_says_but_for_the_one_thing(
    edited_caption: str,
) -> None:
    assert code_of(replacement, with_(edited_caption=edited_caption)) == "invalid_reply"


def test_one_of_several_things_stays_in_the_edited_caption() -> None:
    reply = with_(edited_caption="a bee and a butterfly on a pink flower")
    parse = functools.partial(parse_replacement, caption=CAPTION, categories=["butterfly"])
    assert code_of(parse, reply) == "invalid_reply"
    assert parse(reply, several=["butterfly"])


def test_the_target_loses_its_article_and_capitals() -> None:
    assert replacement(with_(target_category="A Bee.")).target_category == "bee"


@pytest.mark.parametrize(
    "instruction", ["Bees would like it here.", "Something from the beehive.", "No BUTTERFLY here!"]
)
def test_an_instruction_that_names_either_category_is_not_indirect(instruction: str) -> None:
    with pytest.raises(ReplyError, match='with the word "') as caught:
        replacement(with_(instruction=instruction))
    assert caught.value.code == "not_indirect"


def test_an_instruction_may_name_other_things() -> None:
    assert replacement(with_(instruction="The flower longs for a visitor that makes wax."))


def test_candidates_come_back_in_order() -> None:
    parsed = candidates("Bring in a maker of wax.", "Who sleeps in a hive?")
    assert [item.instruction for item in parsed] == [
        "Bring in a maker of wax.",
        "Who sleeps in a hive?",
    ]


@pytest.mark.parametrize(
    ("instructions", "code"),
    [
        (("A maker of wax.",), "invalid_reply"),
        (("Let some bees in.", "Wax!", "A maker of wax."), "not_indirect"),
        (("A maker of wax.", "a maker of WAX"), "invalid_reply"),
        (("A maker of wax.", "Let some bees in."), "not_indirect"),
    ],
)
def test_candidates_too_few_twice_or_direct_are_refused(
    instructions: tuple[str, ...], code: str
) -> None:
    assert code_of(candidates, *instructions) == code


def test_bad_candidates_take_no_good_ones_with_them() -> None:
    good = ["A maker of wax.", "Who sleeps in a hive?"]
    bad = ["Let some bees in.", "Wax!", "a maker of WAX"]
    parsed = candidates(bad[0], good[0], bad[1], bad[2], good[1], count=5)
    assert [item.instruction for item in parsed] == good


def test_malformed_candidates_are_left_out_and_surplus_ones_too() -> None:
    listed: list[Any] = [
        {"instruction": f"Idea number {i} of wax.", "rationale": "So.", "reasoning_type": "causal"}
        for i in range(4)
    ]
    listed[0]["reasoning_type"] = "vibes"
    parsed = parse_candidates(
        json.dumps({"candidates": ["text", None, {}, *listed]}),
        num_candidates=2,
        input_caption=CAPTION,
        edited_caption="a bee on a pink flower",
        direct_instruction="turn the butterfly into a bee",
    )
    assert [item.instruction[12] for item in parsed] == ["1", "2"]


def test_numbered_candidates_and_a_list_without_its_object_are_candidates() -> None:
    listed = [
        {
            "instruction": f"Idea {i} of wax.",
            "rationale": "So.",
            "reasoning_type": "Causal reasoning",
        }
        for i in range(2)
    ]
    for content in (listed, {"candidates": dict(enumerate(listed))}):
        parsed = parse_candidates(
            json.dumps(content),
            num_candidates=2,
            input_caption=CAPTION,
            edited_caption="a bee on a pink flower",
            direct_instruction="turn the butterfly into a bee",
        )
        assert [item.reasoning_type for item in parsed] == ["causal"] * 2


def test_a_single_candidate_is_enough_where_one_was_asked_for() -> None:
    assert len(candidates("A maker of wax.", count=1)) == 1


@pytest.mark.parametrize("choice", [0, 4, -1, 1.5, "two", "", "1e1", True, None, [1]])
def test_only_a_candidate_s_number_is_a_choice(choice: object) -> None:
    reply = json.dumps({"choice": choice, "reason": "Good."})
    assert code_of(parse_choice, reply, num_candidates=3) == "invalid_reply"


@pytest.mark.parametrize("choice", [2, 2.0, "2", " 2 ", "2.", "#2", "Candidate 2", "candidate #2"])
def test_a_number_counts_however_a_model_without_a_grammar_writes_it(choice: object) -> None:
    reply = json.dumps({"choice": choice, "reason": "Good."})
    assert parse_choice(reply, num_candidates=3).index == 1


def test_a_choice_is_counted_from_one() -> None:
    reply = '{"choice": 3, "reason": "Good."}'
    assert parse_choice(reply, num_candidates=3).index == 2


@given(st.text())
def test_any_text_is_parsed_or_refused(reply: str) -> None:
    with contextlib.suppress(ReplyError):
        replacement(reply)
    with contextlib.suppress(ReplyError):
        parse_choice(reply, num_candidates=3)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({key: st.just(value) | json_values for key, value in
                              REPLACEMENT.items()}))  # fmt: skip
def test_an_object_of_any_values_gives_clean_texts_or_is_refused(content: dict[str, Any]) -> None:
    try:
        parsed = replacement(json.dumps(content))
    except ReplyError:
        return
    candidate = parsed.candidate
    assert parsed.selected_category in ("flower", "butterfly")
    assert candidate.reasoning_type in REASONING_TYPES
    for text in (parsed.target_category, parsed.edited_caption, candidate.rationale):
        assert text.encode()
        assert text == " ".join(text.split()) != ""


@given(
    st.sampled_from(["bee", "light bulb", "mouse", "sheep", "teapot", "wolf"]),
    st.text(string.ascii_letters + " ,.!", max_size=30),
    st.sampled_from(["{}", "{}s", "{}'s", "({})", "{}!", '"{}"']),
    st.booleans(),
)
def test_no_target_slips_through_in_any_case_or_punctuation(
    target: str, around: str, form: str, upper: bool
) -> None:
    text = f"See now {around} {form.format(target)} {around}"
    reply = with_(
        target_category=target,
        edited_caption=f"a {target} on a pink flower",
        instruction=text.upper() if upper else text,
    )
    assert code_of(replacement, reply) == "not_indirect"


def test_schemas_offer_only_what_the_parser_takes() -> None:
    schema = replacement_schema()
    assert schema["properties"]["reasoning_type"]["enum"] == list(REASONING_TYPES)
    listed = candidates_schema(4)["properties"]["candidates"]
    assert (listed["minItems"], listed["maxItems"]) == (4, 4)
    # OpenAI's strict form: every key required and no other allowed, at every level.
    for level in (schema, choice_schema(), candidates_schema(4), listed["items"]):
        assert level["required"] == list(level["properties"])
        assert level["additionalProperties"] is False


AXES = {"fit": (1, 5), "quality": (0, 10)}


@given(fit=st.integers(-1, 7), quality=st.integers(-1, 12), reason=st.text(max_size=20))
def test_a_verdict_has_whole_numbers_of_its_ranges_and_words_or_is_none(
    fit: int, quality: int, reason: str
) -> None:
    reply = {"fit_reason": "It fits.", "fit": fit, "quality_reason": reason, "quality": quality}
    is_valid = 1 <= fit <= 5 and 0 <= quality <= 10
    try:
        verdict = parse_verdict(json.dumps(reply), axes=AXES)
    except ReplyError:
        assert not is_valid or not any(map(str.isalpha, reason)) or not reason.isprintable()
    else:
        assert is_valid
        assert verdict.scores == {"fit": fit, "quality": quality}


def test_the_form_that_a_judge_is_told_is_the_schema_s_and_no_verdict_itself() -> None:
    form = verdict_form(AXES)
    for key in verdict_schema(AXES)["properties"]:
        assert f'"{key}": ' in form
    with pytest.raises(ReplyError):
        parse_verdict(form, axes=AXES)
    with pytest.raises(ReplyError, match="whole number"):
        parse_verdict(
            '{"fit_reason": "a", "fit": "4444444", "quality_reason": "b", "quality": 1}', axes=AXES
        )

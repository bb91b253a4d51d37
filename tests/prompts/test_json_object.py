import json
import time

import pytest

from reasonray.prompts.json_object import NotTheFormError, json_object

KEYS = ("choice", "reason")
FORM = {"choice": 2, "reason": "It is {clear}."}
OBJECT = json.dumps(FORM)


@pytest.mark.parametrize(
    "reply",
    [
        "{}",
        "```json\n{}\n```",
        "Sure! Here it is:\n\n```json\n{}\n```\n\nLet me know if you want changes {any}.",
        "{}\n\nI hope this helps.",
        "{}\n{}",
        "\\boxed{{}}",
        r"The answer is $\boxed{\text{choice}}$: {}",
        '{"answer": {}}',
        "[{}]",
        'The form is {"choice": 1, "reason": "..."}; filled in:\n{}',
        "<think>\nI pick one.\n</think>\n\n{}",
        '<think>\nThe form is {"choice": ..., so {that} is it.\n</think>\n\n{}',
        '<think>First {"choice": 1, "reason": "draft"}</think>{}',
        "I pick {one} of the things.\n</think>\n\n{}",
        "<thinking>{a}</thinking>\n{}",
        "<reasoning>{a}</reasoning>\n{}",
        "<seed:think>{a}</seed:think>{}",
        "[THINK]Hm, {a} or {b}?[/THINK]{}",
        "◁think▷Hm {a}◁/think▷{}",
        "<|channel|>analysis<|message|>need {json}<|end|><|start|>assistant<|channel|>final"
        "<|message|>{}",
        "<answer>{}</answer>",
        "<think></think><answer>\n{}\n</answer>",
        "<think>a</think>{}<think>Is {that} right?</think>",
        "{}\n\nI have used no <think> tags, and no </think>.",
        "{}<think>Is that right?",
        "<think>He writes <think>a</think> {b}</think>{}",
    ],
)
def test_the_object_is_taken_out_of_what_stands_around_it(reply: str) -> None:
    assert json_object(reply.replace("{}", OBJECT), KEYS) == FORM


def test_of_several_whole_ones_the_last_that_has_the_keys_counts() -> None:
    reply = '{"choice": 1, "reason": "a"} No, rather {"choice": 2, "reason": "b"} {"choice": 3}'
    assert json_object(reply, KEYS) == {"choice": 2, "reason": "b"}


@pytest.mark.parametrize(
    "reply",
    [
        "{'choice': 2, 'reason': 'It is {clear}.'}",
        "Here: {'choice': 2, 'reason': 'It is {clear}.'} As asked.",
        '{"choice": 2, "reason": "It is {clear}.",}',
        '{"Choice": 2, "REASON ": "It is {clear}."}',
    ],
)
def test_it_is_taken_as_models_write_it_that_have_read_more_code_than_json(reply: str) -> None:
    assert json_object(reply, KEYS) == FORM


def test_a_line_break_in_a_text_is_let_pass() -> None:
    reply = '{"choice": 2, "reason": "It is\nclear."}'
    assert json_object(reply, KEYS) == {"choice": 2, "reason": "It is\nclear."}


def test_a_list_of_objects_is_the_form_whose_only_key_is_left_out() -> None:
    assert json_object(f"Here: [{OBJECT}, {OBJECT}]", ["all"]) == {"all": [FORM, FORM]}
    assert json_object(f'{{"all": [{OBJECT}]}}', ["all"]) == {"all": [FORM]}
    assert json_object(f"[{OBJECT}]", KEYS) == FORM


def test_one_without_the_keys_comes_back_for_the_caller_to_say_what_is_missing() -> None:
    assert json_object('{"choice": {"number": 1}}', KEYS) == {"choice": {"number": 1}}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("I cannot do that.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        (OBJECT[:-3], "not valid JSON"),
        ("{'choice': 1", "not valid JSON"),
        ("{'choice'}", "not valid JSON"),
        ("{1: 'choice'}", "not valid JSON"),
        ('{"choice": NaN, "reason": "a"}', "NaN is not valid JSON"),
        ('{"choice": 1, "choice": 2}', "stands twice"),
        (f"<think>Perhaps {OBJECT}", "thoughts alone"),
        (f"<think>{OBJECT}</think>\n", "thoughts alone"),
        ("{" + " " * 5_000_000, "too long"),
    ],
)
def test_a_reply_without_one_is_refused_with_the_reason(reply: str, reason: str) -> None:
    with pytest.raises(NotTheFormError, match=reason):
        json_object(reply, KEYS)


@pytest.mark.parametrize("opening", ["{", '{"a":', "[", '{"a":{', '{"a":1'])
@pytest.mark.parametrize("count", [900, 100_000])
def test_no_reply_takes_long_to_look_through(opening: str, count: int) -> None:
    start = time.monotonic()
    with pytest.raises(NotTheFormError):
        json_object("x {" + opening * count, KEYS)
    assert time.monotonic() - start < 5

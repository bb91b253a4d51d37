import itertools
import re

import pytest

from reasonray.prompts.replies import parse_choice
from reasonray.prompts.template import ask_again, load, numbered, one_line

REPLACE = {"caption": "a bee", "categories": "bee", "objects": "bee (9 % of the picture)"}
VARIED = {"reasoning_type": "causal", "examples": "None."}


def test_the_worked_examples_of_select_are_what_the_parser_accepts() -> None:
    lines = load("select").system.splitlines()
    pairs = [pair for pair in itertools.pairwise(lines) if pair[1].startswith("Reply: ")]
    for question, reply in pairs:
        count = len(re.findall(r"\d\. ", question.partition("Candidates: ")[2]))
        assert parse_choice(reply.removeprefix("Reply: "), num_candidates=count)
    assert len(pairs) == 2


@pytest.mark.parametrize("name", ["gen", "select", "replace", "again"])
def test_every_prompt_has_a_name_and_a_version(name: str) -> None:
    assert load(name).provenance == {"name": f"P_{name}", "version": load(name).version}
    assert load(name).version


def test_fields_are_filled_in_and_braces_or_dollars_in_them_stay() -> None:
    messages = load("replace").messages(
        **{**REPLACE, "caption": "a {caption} for $5"}, **{**VARIED, "examples": "A {$5}."}
    )
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"].startswith("Caption: a {caption} for $5\nCategories: bee\n")
    assert messages[0]["content"].endswith("Worked examples:\nA {$5}.")
    assert "$" not in messages[0]["content"].removesuffix("A {$5}.")


def test_a_missing_field_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError):
        load("replace").messages(caption="a bee")


def test_asking_again_shows_the_bad_reply_and_the_reason() -> None:
    first = load("replace").messages(**REPLACE, **VARIED)
    chat = ask_again(first, "nonsense", "It is\nno JSON.")
    assert chat[:2] == first
    assert chat[2] == {"role": "assistant", "content": "nonsense"}
    assert chat[3]["role"] == "user"
    assert "It is no JSON." in chat[3]["content"]
    assert len(first) == 2


def test_candidates_are_numbered_one_a_line() -> None:
    assert numbered(["a", "b\nc"]) == "1. a\n2. b c"
    assert one_line("  a \n\t b ") == "a b"

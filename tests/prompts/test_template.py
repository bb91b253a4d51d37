import itertools
import re

import pytest

from reasonray.prompts.replies import parse_candidates, parse_choice, parse_replacement
from reasonray.prompts.template import ask_again, load, numbered, one_line


def examples(name: str) -> list[tuple[dict[str, str], str]]:
    """The worked examples of a prompt: its fields and the reply."""
    lines = load(name).system.splitlines()
    found = []
    for question, reply in itertools.pairwise(lines):
        if reply.startswith("Reply: "):
            fields = dict(part.split(": ", 1) for part in question.split(" | ") if ": " in part)
            found.append((fields, reply.removeprefix("Reply: ")))
    return found


def test_the_worked_examples_of_replace_are_what_the_parser_accepts() -> None:
    for fields, reply in examples("replace"):
        categories = fields["Categories"].split(", ")
        assert parse_replacement(reply, caption=fields["Caption"], categories=categories)
    assert len(examples("replace")) == 3


def test_the_worked_examples_of_gen_are_what_the_parser_accepts() -> None:
    lines = load("gen").system
    counts = [int(n) for n in re.findall(r"Write (\d+) different", lines)]
    for (fields, reply), count in zip(examples("gen"), counts, strict=True):
        assert parse_candidates(
            reply,
            num_candidates=count,
            input_caption=fields["Input caption"],
            edited_caption=fields["Edited caption"],
            direct_instruction=fields["Direct instruction"],
        )
    assert len(counts) == 2


def test_the_worked_examples_of_select_are_what_the_parser_accepts() -> None:
    for fields, reply in examples("select"):
        count = len(re.findall(r"\d\. ", fields["Candidates"]))
        assert parse_choice(reply, num_candidates=count)
    assert len(examples("select")) == 2


@pytest.mark.parametrize("name", ["gen", "select", "replace", "again"])
def test_every_prompt_has_a_name_and_a_version(name: str) -> None:
    assert load(name).provenance == {"name": f"P_{name}", "version": load(name).version}
    assert load(name).version


def test_fields_are_filled_in_and_braces_or_dollars_in_them_stay() -> None:
    messages = load("replace").messages(caption="a {caption} for $5", categories="bee, cup")
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"].startswith("Caption: a {caption} for $5\nCategories: bee, cup\n")
    assert "$" not in messages[0]["content"]


def test_a_missing_field_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError):
        load("replace").messages(caption="a bee")


def test_asking_again_shows_the_bad_reply_and_the_reason() -> None:
    first = load("replace").messages(caption="a bee", categories="bee")
    chat = ask_again(first, "nonsense", "It is\nno JSON.")
    assert chat[:2] == first
    assert chat[2] == {"role": "assistant", "content": "nonsense"}
    assert chat[3]["role"] == "user"
    assert "It is no JSON." in chat[3]["content"]
    assert len(first) == 2


def test_candidates_are_numbered_one_a_line() -> None:
    assert numbered(["a", "b\nc"]) == "1. a\n2. b c"
    assert one_line("  a \n\t b ") == "a b"

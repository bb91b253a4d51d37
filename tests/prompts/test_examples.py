import json
import re
from collections import Counter

import pytest

from reasonray.core.record import REASONING_TYPES
from reasonray.prompts.examples import NUM_EXAMPLES, examples, varied
from reasonray.prompts.replies import parse_candidates, parse_replacement


def taken_apart(lines: str) -> tuple[dict[str, str], str]:
    """The fields of a worked example's question, and the reply."""
    question, reply = lines.split("\nReply: ")
    return dict(part.split(": ", 1) for part in question.split(" | ") if ": " in part), reply


def test_every_worked_example_of_replace_is_one_that_the_parser_accepts() -> None:
    for _, lines in examples("replace"):
        fields, reply = taken_apart(lines)
        several = re.findall(r"(\w+) \(the \w+ one of", fields["Objects"])
        categories = fields["Categories"].split(", ")
        parse_replacement(reply, caption=fields["Caption"], categories=categories, several=several)
        assert len(re.findall(r"% of the picture", fields["Objects"])) == len(categories)


def test_every_worked_example_of_gen_is_one_of_which_the_parser_keeps_all() -> None:
    for _, lines in examples("gen"):
        fields, reply = taken_apart(lines)
        count = len(json.loads(reply)["candidates"])
        parsed = parse_candidates(
            reply,
            num_candidates=count,
            input_caption=fields["Input caption"],
            edited_caption=fields["Edited caption"],
            direct_instruction=fields["Direct instruction"],
        )
        assert len(parsed) == count
        assert f"Write {count} different instructions." in lines


def test_the_pool_is_large_of_every_kind_and_never_twice_to_the_same_target() -> None:
    pool = examples("replace")
    assert len(pool) >= 30
    kinds = Counter(kind for own, _ in pool for kind in own)
    assert set(kinds) == set(REASONING_TYPES)
    assert min(kinds.values()) >= 4
    assert {kind for own, _ in examples("gen") for kind in own} == set(REASONING_TYPES)
    targets = [json.loads(taken_apart(lines)[1])["target_category"] for _, lines in pool]
    assert len(set(targets)) >= len(pool) - 1


@pytest.mark.parametrize("name", ["gen", "replace"])
def test_what_varies_follows_from_the_seed_alone_and_all_of_it_occurs(name: str) -> None:
    drawn = [varied(name, seed) for seed in range(300)]
    assert drawn[7] == varied(name, 7)
    assert {fields["reasoning_type"] for fields in drawn} == set(REASONING_TYPES)
    lines = Counter(line for fields in drawn for line in fields["examples"].split("\n"))
    assert all(lines[line] for _, own in examples(name) for line in own.split("\n"))
    for fields in drawn:
        replies = [line for line in fields["examples"].split("\n") if line.startswith("Reply: ")]
        assert len(set(replies)) == NUM_EXAMPLES[name]
        assert any(f'"{fields["reasoning_type"]}"' in reply for reply in replies)

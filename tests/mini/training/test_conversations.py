import json
import re

from reasonray.mini.training.conversations import Conversation, conversation
from reasonray.prompts.replies import parse_candidates, parse_choice, parse_replacement
from reasonray.sources.mini.world import HELD_OUT_SEED

COUNT = 400


def made() -> list[Conversation]:
    return [conversation(seed, scene_seeds=range(HELD_OUT_SEED)) for seed in range(COUNT)]


def check(said: Conversation) -> str:
    """Parse the reply as production would; the prompt's fields are read back from its text."""
    lines = said.messages[1]["content"].splitlines()
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    if "Categories" in fields:
        categories = fields["Categories"].split(", ")
        parsed = parse_replacement(said.reply, caption=fields["Caption"], categories=categories)
        assert parsed.edited_caption != fields["Caption"]
        return "replace"
    if "Candidates:" in lines:
        parse_choice(said.reply, num_candidates=sum(line[0].isdigit() for line in lines))
        return "select"
    count = re.search(r"Write (\d)", lines[-1])
    assert count
    parse_candidates(
        said.reply,
        num_candidates=int(count[1]),
        input_caption=fields["Input caption"],
        edited_caption=fields["Edited caption"],
        direct_instruction=fields["Direct instruction"],
    )
    return "gen"


def test_every_taught_reply_is_one_that_production_accepts() -> None:
    assert {check(said) for said in made()} == {"replace", "select", "gen"}


def test_some_conversations_ask_again_after_a_bad_reply() -> None:
    again = [said for said in made() if len(said.messages) == 4]
    assert COUNT * 0.05 < len(again) < COUNT * 0.25
    assert all(said.messages[2]["role"] == "assistant" for said in again)
    assert any("nothing" not in said.messages[2]["content"] for said in again)


def test_a_seed_gives_the_same_conversation_for_ever() -> None:
    seeds = range(HELD_OUT_SEED)
    assert conversation(7, scene_seeds=seeds) == conversation(7, scene_seeds=seeds)
    assert json.loads(conversation(7, scene_seeds=seeds).reply)

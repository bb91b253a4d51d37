"""The zoo's model through real vLLM, on a GPU or with vLLM's build for CPUs."""

import copy
import json

import PIL.Image
import pytest

from reasonray.core.errors import UserError
from reasonray.core.sections import LanguageModelConfig, ModelConfig
from reasonray.evaluation.judge import Judge
from reasonray.mini.evaluation.judge import agrees, cases, judged, zoo_judge
from reasonray.models.language_model import (
    LanguageModel,
    ReplyFailure,
    Request,
    load_language_model,
)
from reasonray.prompts.examples import varied
from reasonray.prompts.replies import parse_replacement, replacement_schema
from reasonray.prompts.template import load
from reasonray.sources.mini.world import render, sample_scene

pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md says how to run it")

# vLLM and torch warn of themselves; the engine takes a minute to start.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]

NUM_EDITS = 300
ABOUT = "11 % of the picture, square, centre"
CAPTIONS = {
    "a bee on a white background": ["bee"],
    "a cat, some milk and a light bulb on a blue background": ["cat", "milk", "light bulb"],
    "a seedling and a car on a pink background": ["car", "seedling"],
    "some yarn on a green background": ["yarn"],
}
BEE, CAT, CAR, YARN = CAPTIONS


@pytest.fixture(scope="module")
def engine() -> LanguageModel:
    zoo = ModelConfig(name="package:reasonray/mini/zoo/language_model", dtype="float32")
    return load_language_model(
        LanguageModelConfig(backend="vllm", model=zoo, engine={"max_num_seqs": 16})
    )


def ask(caption: str, seed: int = 0, temperature: float = 1.0, max_tokens: int = 160) -> Request:
    messages = load("replace").messages(
        caption=caption,
        categories=", ".join(CAPTIONS[caption]),
        objects=", ".join(f"{name} ({ABOUT})" for name in CAPTIONS[caption]),
        **varied("replace", seed),
    )
    return Request(messages, replacement_schema(), seed, temperature, max_tokens)


def assert_answers(reply: str | ReplyFailure, caption: str) -> None:
    assert isinstance(reply, str)
    parse_replacement(reply, caption=caption, categories=CAPTIONS[caption])


def test_the_zoo_s_model_answers_the_shipped_prompt_in_its_schema(engine: LanguageModel) -> None:
    replies = engine.reply([ask(caption, temperature=0) for caption in CAPTIONS])
    for caption, reply in zip(CAPTIONS, replies, strict=True):
        assert_answers(reply, caption)


def test_a_schema_holds_whatever_the_model_would_have_said(engine: LanguageModel) -> None:
    # Its own layout, which a small model needs: in another it would write blanks to the end.
    schema = copy.deepcopy(replacement_schema())
    schema["properties"]["reasoning_type"] = {"enum": ["cultural"]}
    replies = engine.reply(
        [Request(ask(BEE).messages, schema, seed, 1.0, 160) for seed in range(10)]
    )
    kinds = [json.loads(reply)["reasoning_type"] for reply in replies if isinstance(reply, str)]
    assert kinds == ["cultural"] * 10


def test_an_engine_takes_its_own_settings_and_says_which_it_does_not_know() -> None:
    zoo = ModelConfig(name="package:reasonray/mini/zoo/language_model", dtype="float32")
    config = LanguageModelConfig(backend="vllm", model=zoo, engine={"no_such_setting": 1})
    with pytest.raises(UserError, match=r"language_model.engine: .*no_such_setting"):
        load_language_model(config)


def test_a_seed_repeats_its_reply_and_others_differ(engine: LanguageModel) -> None:
    replies = engine.reply([ask(CAR, seed=seed) for seed in [1, 1, *range(2, 10)]])
    assert replies[0] == replies[1]
    assert len(set(replies)) >= 8


def test_requests_of_different_temperature_and_length_share_a_batch(
    engine: LanguageModel,
) -> None:
    first, short, second = engine.reply(
        [ask(CAT, temperature=0), ask(YARN, seed=3, max_tokens=5), ask(BEE, temperature=0)]
    )
    assert_answers(first, CAT)
    assert_answers(second, BEE)
    assert isinstance(short, ReplyFailure)
    assert short.reason == "cut_off"
    assert 0 < len(short.text) < 100


def test_a_question_that_does_not_fit_fails_alone(engine: LanguageModel) -> None:
    long = Request([{"role": "user", "content": "word " * 3000}], None, 0, 1.0, 10)
    first, failed, second = engine.reply([ask(BEE, temperature=0), long, ask(CAT, temperature=0)])
    assert isinstance(failed, ReplyFailure)
    assert "1024 tokens" in failed.detail
    assert_answers(first, BEE)
    assert_answers(second, CAT)


def test_no_requests_give_no_replies(engine: LanguageModel) -> None:
    assert engine.reply([]) == []


@pytest.fixture(scope="module")
def seeing() -> LanguageModel:
    pytest.importorskip("torchvision", reason="needs vLLM and the torchvision of its torch")
    zoo = ModelConfig(name="package:reasonray/mini/zoo/mllm", dtype="float32")
    return load_language_model(
        LanguageModelConfig(backend="vllm", model=zoo, engine={"max_num_seqs": 8})
    )


def show(*scenes: int) -> Request:
    pictures = [PIL.Image.fromarray(render(sample_scene(scene))) for scene in scenes]
    content = [
        *({"type": "image", "image": picture} for picture in pictures),
        {"type": "text", "text": "What is in the picture?"},
    ]
    return Request([{"role": "user", "content": content}], None, 0, 0.0, 24)


def begun(reply: str | ReplyFailure) -> str:
    return reply if isinstance(reply, str) else reply.text


def test_each_of_two_pictures_in_a_chat_reaches_the_model(seeing: LanguageModel) -> None:
    # It has learnt to look at one: some pictures beside another change nothing.
    firsts, seconds = [show(n, 0) for n in range(6)], [show(0, n) for n in range(6)]
    requests = [*firsts, *seconds]
    replies = [begun(reply) for reply in seeing.reply(requests)]
    assert all(replies)
    assert len(set(replies[:6])) > 2
    assert len(set(replies[6:])) > 2
    assert replies[:6] != replies[6:]
    assert [begun(seeing.reply([request])[0]) for request in requests] == replies


def test_the_words_are_those_of_the_same_weights_in_transformers(seeing: LanguageModel) -> None:
    zoo = ModelConfig(name="package:reasonray/mini/zoo/mllm", dtype="float32")
    plain = load_language_model(LanguageModelConfig(backend="transformers", model=zoo))
    requests = [show(scene) for scene in range(16)]
    ours, theirs = ([begun(reply) for reply in model.reply(requests)] for model in (seeing, plain))
    # Kernels round otherwise, and a near tie may fall to the other side.
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 14


def test_the_zoo_s_judge_agrees_with_the_truth() -> None:
    pytest.importorskip("torchvision", reason="needs vLLM and the torchvision of its torch")
    judge, labelled = Judge(zoo_judge("vllm"), seed=0), cases(NUM_EDITS)
    for with_caption in (True, False):
        judgements = judged(judge, labelled, with_caption=with_caption)
        assert all(judgement.verdicts for judgement in judgements)
        right = [agrees(*pair) for pair in zip(labelled, judgements, strict=True)]
        assert sum(right) >= 0.9 * NUM_EDITS


def test_a_model_that_reads_texts_alone_refuses_pictures_in_one_line(
    engine: LanguageModel,
) -> None:
    with pytest.raises(UserError, match="language_model: reads no pictures"):
        engine.reply([show(0)])

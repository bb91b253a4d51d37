import contextlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from reasonray.core.errors import UserError
from reasonray.core.sections import LanguageModelConfig, ModelConfig
from reasonray.models import weights
from reasonray.models.language_model import ReplyFailure, Request, load_language_model
from reasonray.models.transformers_model import TransformersModel
from reasonray.prompts.examples import NUM_EXAMPLES, examples, varied
from reasonray.prompts.replies import ReplyError, parse_choice, parse_replacement
from reasonray.prompts.template import load

pytestmark = pytest.mark.zoo

ZOO = LanguageModelConfig(
    backend="transformers", model=ModelConfig(name="package:reasonray/mini/zoo/language_model")
)

ABOUT = "11 % of the picture, square, centre"
CAPTIONS = {
    "a bee on a white background": ["bee"],
    "a cat, some milk and a light bulb on a blue background": ["cat", "milk", "light bulb"],
    "a seedling and a car on a pink background": ["car", "seedling"],
    "some yarn on a green background": ["yarn"],
    "a horse, a key and an egg on a gray background": ["horse", "key", "egg"],
    "a candle and a teapot on a brown background": ["candle", "teapot"],
    "a caterpillar and a bone on a yellow background": ["caterpillar", "bone"],
    "a motorcycle on a purple background": ["motorcycle"],
}


@pytest.fixture(scope="module")
def model() -> TransformersModel:
    torch.set_num_threads(1)
    loaded = load_language_model(ZOO)
    assert isinstance(loaded, TransformersModel)
    return loaded


def ask(caption: str, seed: int = 0, temperature: float = 1.0, max_tokens: int = 160) -> Request:
    messages = load("replace").messages(
        caption=caption,
        categories=", ".join(CAPTIONS[caption]),
        objects=", ".join(f"{name} ({ABOUT})" for name in CAPTIONS[caption]),
        **varied("replace", seed),
    )
    return Request(messages, None, seed, temperature, max_tokens)


def test_the_zoo_s_model_answers_the_shipped_prompt(model: TransformersModel) -> None:
    asked = [(caption, seed) for caption in CAPTIONS for seed in range(4)]
    replies = model.reply([ask(caption, seed=seed) for caption, seed in asked])
    num_valid = 0
    for (caption, _), reply in zip(asked, replies, strict=True):
        assert isinstance(reply, str)
        with contextlib.suppress(ReplyError):
            parse_replacement(reply, caption=caption, categories=CAPTIONS[caption])
            num_valid += 1
    # Some are refused, and which ones depends on how a processor rounds; the stages ask again.
    assert num_valid >= 0.9 * len(asked)


def test_neither_batch_mates_nor_padding_change_a_reply(model: TransformersModel) -> None:
    requests = [ask(caption, seed=i) for i, caption in enumerate(CAPTIONS)]
    together = model.reply(requests)
    assert [model.reply([request])[0] for request in requests] == together
    assert model.reply(requests[::-1]) == together[::-1]


def test_requests_of_different_temperature_and_length_share_a_batch(
    model: TransformersModel,
) -> None:
    first, second = list(CAPTIONS)[:2]
    greedy, warm = ask(first, temperature=0), ask(second, seed=3, max_tokens=9)
    alone = [model.reply([greedy])[0], model.reply([warm])[0]]
    assert model.reply([greedy, warm]) == alone


def test_greedy_replies_are_those_of_transformers_own_generation(
    model: TransformersModel,
) -> None:
    request = ask("a cat, some milk and a light bulb on a blue background", temperature=0)
    messages: Any = request.messages
    text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    asked = model.tokenizer(text, add_special_tokens=False, return_tensors="pt")
    generate: Any = model.model.generate
    theirs = generate(**asked, do_sample=False, min_p=None, max_new_tokens=160)
    said = theirs[0, asked["input_ids"].shape[1] :]
    assert model.reply([request]) == [model.tokenizer.decode(said, skip_special_tokens=True)]


def test_a_reply_that_reaches_its_limit_says_so(model: TransformersModel) -> None:
    caption = "a seedling and a car on a pink background"
    whole, short = model.reply([ask(caption, seed=1), ask(caption, seed=1, max_tokens=9)])
    assert isinstance(whole, str)
    assert isinstance(short, ReplyFailure)
    assert (short.reason, whole.startswith(short.text.strip())) == ("cut_off", True)


def test_a_seed_repeats_its_reply_and_others_differ(model: TransformersModel) -> None:
    caption = "a seedling and a car on a pink background"
    replies = model.reply([ask(caption, seed=seed) for seed in [1, 1, *range(2, 10)]])
    assert replies[0] == replies[1]
    assert len(set(replies)) >= 8


def with_cut_offs(folder: Path, **cut_offs: float) -> TransformersModel:
    """The zoo's model whose makers ask for these."""
    torch.set_num_threads(1)
    shutil.copytree(weights.resolve(ZOO.model), folder / "model")
    path = folder / "model/generation_config.json"
    content = json.loads(path.read_text())
    content.pop("min_p")
    path.write_text(json.dumps({**content, **cut_offs}))
    config = ModelConfig(name=str(folder / "model"))
    return TransformersModel(ZOO.model_copy(update={"model": config}))


PROBABILITIES = {"bee": 0.5, "egg": 0.3, "cat": 0.15, "key": 0.05}


def first_words(model: TransformersModel, count: int) -> Counter[str]:
    """The first words of replies with seeds 0..count-1, of a model that says `PROBABILITIES`."""
    words = [model.tokenizer(word, add_special_tokens=False)["input_ids"] for word in PROBABILITIES]
    ids = [token for [token] in words]

    def say(module: object, arguments: object, output: CausalLMOutputWithPast) -> None:
        assert output.logits is not None
        output.logits[:] = -torch.inf
        output.logits[..., ids] = torch.tensor([*PROBABILITIES.values()]).log()

    hook = model.model.register_forward_hook(say)
    try:
        messages = [{"role": "user", "content": "?"}]
        replies = model.reply([Request(messages, None, seed, 1.0, 1) for seed in range(count)])
    finally:
        hook.remove()
    return Counter(reply.text.strip() for reply in replies if isinstance(reply, ReplyFailure))


def test_sampled_tokens_have_the_frequencies_of_the_logits(tmp_path: Path) -> None:
    counts = first_words(with_cut_offs(tmp_path), 640)
    assert {word: count / 640 for word, count in counts.items()} == pytest.approx(
        PROBABILITIES, abs=0.03
    )


@pytest.mark.parametrize(
    ("cut_offs", "left"),
    [
        ({"min_p": 0.4}, 2),
        ({"top_k": 3}, 3),
        ({"top_p": 0.7}, 2),
        ({"top_k": 0, "top_p": 1.0}, 4),
        ({"min_p": 0.2, "top_k": 3, "top_p": 0.6}, 2),
    ],
)
def test_a_model_s_own_cut_offs_hold(cut_offs: dict[str, float], left: int, tmp_path: Path) -> None:
    assert set(first_words(with_cut_offs(tmp_path, **cut_offs), 128)) == {*[*PROBABILITIES][:left]}


def test_a_question_that_does_not_fit_fails_alone(model: TransformersModel) -> None:
    long = Request([{"role": "user", "content": "word " * 3000}], None, 0, 1.0, 10)
    good = ask("a bee on a white background")
    failed, fine = model.reply([long, good])
    assert isinstance(failed, ReplyFailure)
    assert "tokens" in failed.detail
    assert [fine] == model.reply([good])


def test_no_requests_give_no_replies(model: TransformersModel) -> None:
    assert model.reply([]) == []


def test_the_tokenizer_gives_any_text_back(model: TransformersModel) -> None:
    for text in ('Ünï ✓ 数\t{"x": 1}  two spaces\n\nend ', load("gen").system, "a bee's <b>"):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert model.tokenizer.decode(ids) == text


def test_every_fixed_line_of_the_shipped_prompts_is_one_token(model: TransformersModel) -> None:
    # A reworded prompt is no longer what the zoo's model was trained on: train it again.
    texts = [load(name).system.removesuffix("\n$examples") for name in ("gen", "select", "replace")]
    for text in texts:
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == len(text.splitlines())
    for name in NUM_EXAMPLES:
        for line in "\n".join(lines for _, lines in examples(name)).splitlines():
            assert len(model.tokenizer(line, add_special_tokens=False)["input_ids"]) == 1


def test_select_gets_an_answer_from_the_zoo_s_model(model: TransformersModel) -> None:
    messages = load("select").messages(
        input_caption="a bee on a white background",
        edited_caption="some honey on a white background",
        direct_instruction="Turn the bee into some honey",
        candidates="1. Show what it makes instead.\n2. Put some honey there.",
    )
    reply = model.reply([Request(messages, None, 0, 0.0, 48)])[0]
    assert isinstance(reply, str)
    assert parse_choice(reply, num_candidates=2).reason


def test_a_model_without_a_chat_template_is_the_user_s_mistake(
    model: TransformersModel, tmp_path: Path
) -> None:
    model.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    AutoModelForCausalLM.from_config(model.model.config).save_pretrained(tmp_path)
    config = LanguageModelConfig(backend="transformers", model=ModelConfig(name=str(tmp_path)))
    with pytest.raises(UserError, match="chat template"):
        TransformersModel(config)

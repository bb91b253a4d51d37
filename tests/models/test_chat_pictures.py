"""Pictures in chats, and how a server gets them."""

from typing import Any

import numpy as np
import PIL.Image
import pytest
from lying_server import Answer, LyingServer

from reasonray.core.errors import RunError
from reasonray.core.sections import LanguageModelConfig
from reasonray.models import openai_server
from reasonray.models.chat_pictures import guessed_tokens, shown, with_data_uris
from reasonray.models.language_model import Request
from reasonray.models.openai_server import OpenAIServer


def noise(seed: int, size: tuple[int, int] = (40, 30)) -> PIL.Image.Image:
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def chat(*pictures: PIL.Image.Image, text: str = "Which is older?") -> list[dict[str, Any]]:
    parts = [{"type": "image", "image": picture} for picture in pictures]
    return [
        {"role": "system", "content": "You compare."},
        {"role": "user", "content": [{"type": "text", "text": text}, *parts]},
    ]


def client(server: LyingServer, **settings: object) -> OpenAIServer:
    section = {"base_url": server.url, "max_attempts": 2, **settings}
    return OpenAIServer(
        LanguageModelConfig.model_validate({"model": {"name": "liar"}, "server": section})
    )


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(openai_server, "FIRST_OUTAGE_WAIT_S", 0.01)


@pytest.mark.parametrize(
    ("size", "smaller"), [((1536, 1024), (768, 512)), ((700, 768), (700, 768)), ((9, 3), (9, 3))]
)
def test_a_picture_is_shown_no_larger_than_the_limit_and_never_enlarged(
    size: tuple[int, int], smaller: tuple[int, int]
) -> None:
    picture = shown(PIL.Image.new("RGBA", size, "red"), 768)
    assert (picture.size, picture.mode) == (smaller, "RGB")


def test_a_server_gets_the_very_pixels_in_the_chat_s_order(lying_server: LyingServer) -> None:
    first, second = noise(1), noise(2, (20, 50))
    client(lying_server).reply([Request(chat(first, second), None, 0, 0.0, 9)])
    [seen] = lying_server.seen
    content = seen.body["messages"][1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "image_url"]
    assert seen.body["messages"][0]["content"] == "You compare."
    for ours, theirs in zip((first, second), seen.pictures, strict=True):
        assert (np.asarray(ours) == np.asarray(theirs)).all()


def test_a_turn_without_a_picture_stays_a_text_for_servers_that_know_no_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert with_data_uris([{"role": "user", "content": parts}]) == [
        {"role": "user", "content": "a\nb"}
    ]


def test_a_picture_counts_by_its_area_where_the_server_does_not_count(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lambda body, count: Answer("fine", usage=False)
    counts: list[tuple[int, int]] = []
    messages = chat(noise(1, (280, 56)), text="x" * 400)
    request = Request(messages, None, 0, 0.0, 9, lambda *each: counts.append(each))
    client(lying_server).reply([request])
    # 12 letters of the system's turn; 10 x 2 patches of 28 x 28 pixels.
    assert counts == [((400 + 12) // 4 + 20, 1)]
    assert guessed_tokens(messages) == counts[0][0]


def test_pictures_spend_the_budget_as_the_server_counts_them(lying_server: LyingServer) -> None:
    model = client(lying_server, token_budget=150, max_concurrency=1)
    requests = [Request(chat(noise(seed)), None, 0, 0.0, 9) for seed in range(3)]
    with pytest.raises(RunError, match="budget"):
        model.reply(requests)  # 100 for each
    assert len(lying_server.seen) == 2


def test_a_server_without_a_system_turn_gets_its_text_before_the_pictures(
    lying_server: LyingServer,
) -> None:
    lying_server.answer = lambda body, count: (
        Answer("fine")
        if body["messages"][0]["role"] == "user"
        else Answer(status=400, error={"message": "System role not supported"})
    )
    picture = noise(1)
    assert client(lying_server).reply([Request(chat(picture), None, 0, 0.0, 9)]) == ["fine"]
    [turn] = lying_server.seen[-1].body["messages"]
    assert [part.get("text") for part in turn["content"]] == [
        "You compare.",
        "Which is older?",
        None,
    ]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Invalid content type. image_url is only supported by certain models."),
        (400, "messages[1]: unknown variant `image_url`, expected `text` at line 1 column 7"),
        (400, "llama3 is not a multimodal model"),
        (400, "At most 0 image(s) may be provided in one prompt."),
        (400, "At most 1 image(s) may be provided in one prompt."),
        (404, "No endpoints found that support image input"),
        (500, "image input is not supported - hint: you may need to provide the mmproj"),
        (400, "this model does not support image input"),
        (400, "Model does not support images. Please use a model that does."),
        (500, "this model is missing data required for image input"),
        (400, "This model doesn't support vision"),
        (429, "Multimodal input is not supported for the text-only model x"),
    ],
)
def test_a_model_that_sees_nothing_stops_the_run_in_one_line(
    lying_server: LyingServer, status: int, words: str
) -> None:
    lying_server.answer = lambda body, count: Answer(status=status, error={"message": words})
    with pytest.raises(RunError, match="Take a model that sees") as error:
        client(lying_server).reply([Request(chat(noise(1)), None, 0, 0.0, 9)])
    assert "\n" not in str(error.value)
    assert len(lying_server.seen) == 1


@pytest.mark.parametrize(
    "words",
    [
        "unsupported image format: webp",
        "We do not support images/x-portable in this picture",
        "The image data you provided does not represent a valid image",
        "does not support image formats other than PNG",
        "image is too large",
    ],
)
def test_a_picture_that_is_refused_fails_its_own_request(
    lying_server: LyingServer, words: str
) -> None:
    def answer(body: dict[str, Any], count: int) -> Answer:
        text = body["messages"][1]["content"][0]["text"]
        bad = Answer(status=400, error={"message": words})
        return bad if text == "bad" else Answer("fine")

    lying_server.answer = answer
    requests = [Request(chat(noise(1), text=text), None, 0, 0.0, 9) for text in ("bad", "good")]
    bad, good = client(lying_server).reply(requests)
    assert good == "fine"
    assert not isinstance(bad, str)
    assert words in bad.detail

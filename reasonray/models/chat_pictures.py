"""Pictures in chats: a turn's content is a text, or parts as OpenAI's API has them.

A part is `{"type": "text", "text": …}` or `{"type": "image", "image": PIL.Image.Image}`, RGB. Each
backend turns it into its own form; none resizes it by a rule of ours: who asks sends a picture as
large as it is to be seen (`shown`).
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image

from reasonray.core import images
from reasonray.core.resizing import resized, within

PIXELS_A_TOKEN = 28 * 28
"""Of a picture that a model reads: Qwen-VL's figure, by which 768 x 768 pixels are 753 tokens; the
tiles of OpenAI's gpt-4o give 765."""

CHARACTERS_A_TOKEN = 4
"""Of English text, about."""

Messages = Sequence[Mapping[str, Any]]


def shown(image: PIL.Image.Image, max_side: int) -> PIL.Image.Image:
    """The picture as a model is shown it: RGB, its longer side at most `max_side` pixels.

    A larger one is made smaller by Lanczos, in its shape; a smaller one stays as it is.
    """
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return resized(rgb, within(rgb.size, max_side))


def parts(content: Any) -> list[dict[str, Any]]:
    """A turn's content as parts; a text is one."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [dict(part) for part in content]


def pictures(messages: Messages) -> list[PIL.Image.Image]:
    """All pictures of a chat, in their order."""
    listed = (part for turn in messages for part in parts(turn["content"]))
    return [part["image"] for part in listed if part["type"] == "image"]


def text(content: Any) -> str:
    """The texts of a turn's content, each part on lines of its own."""
    return "\n".join(part["text"] for part in parts(content) if part["type"] == "text")


def guessed_tokens(messages: Messages) -> int:
    """Tokens of a chat where nobody counts them: by its letters and its pictures' areas."""
    num_letters = sum(len(text(turn["content"])) for turn in messages)
    areas = (image.width * image.height for image in pictures(messages))
    return num_letters // CHARACTERS_A_TOKEN + sum(
        math.ceil(area / PIXELS_A_TOKEN) for area in areas
    )


def with_data_uris(messages: Messages) -> list[dict[str, Any]]:
    """The chat as it is sent to a server: pictures as `image_url` with PNGs, without loss.

    A turn that holds a text alone stays one: not every server takes parts.
    """
    return [{**turn, "content": _sent(turn["content"])} for turn in messages]


def _sent(content: Any) -> Any:
    if isinstance(content, str):
        return content
    listed = parts(content)
    if all(part["type"] == "text" for part in listed):
        return text(content)
    return [
        {"type": "image_url", "image_url": {"url": _data_uri(part["image"])}}
        if part["type"] == "image"
        else part
        for part in listed
    ]


def _data_uri(image: PIL.Image.Image) -> str:
    encoded = base64.b64encode(images.encode_png(image)["bytes"]).decode("ascii")
    return f"data:image/png;base64,{encoded}"

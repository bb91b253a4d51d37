"""The multipart form of `POST /v1/images/edits` read, field by field; answers and events written.

The fields are OpenAI's, and diffusers' for what OpenAI has no name for. A field that is not known,
that comes twice or has no meaning here is refused by its name: nothing is ignored in silence.
"""

import base64
import json
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from reasonray.serving.config import (
    MAX_BODY,
    MAX_N,
    MAX_PARTIALS,
    MAX_PROMPT,
    MAX_SEED,
    MAX_STEPS,
)
from reasonray.serving.errors import ApiError, invalid, too_large
from reasonray.serving.mark import Format
from reasonray.serving.schema import SCALARS

_Value = TypeVar("_Value")

FILES = ("image", "image[]", "mask", "mask_image")
_MAX_FIELDS = 64

# Seeds that are drawn are exact in every reader of JSON, and short enough to be typed again.
_DRAWN_SEEDS = 2**32

_WITHOUT_MEANING = {
    "input_fidelity": "say how much the picture counts by image_guidance_scale",
    "markup": "draw into the picture, or send a mask",
    "negative_prompt": "say what to do in prompt; there is no negative one",
    "strength": "say how much the picture counts by image_guidance_scale",
    "true_cfg_scale": "guidance_scale is the instruction's, image_guidance_scale the picture's",
    "url": "send the picture itself as image",
    "image_url": "send the picture itself as image",
    "height": "give both sides by size",
    "width": "give both sides by size",
    "num_images_per_prompt": "it is n here",
    "steps": "it is num_inference_steps here",
}
"""What others have and we do not, with what to do instead."""


@dataclass(frozen=True)
class EditForm:
    """What a client asks for, checked as far as it can be without looking at the pictures.

    Attributes:
        image: the file's bytes.
        mask: the mask's bytes, or None.
        mask_field: "mask" as OpenAI means it (transparent may change) or "mask_image" as diffusers
            does (white may change).
        prompt: the instruction.
        model: a served name; None: the first.
        n: pictures; picture i has seed + i.
        size: WIDTHxHEIGHT or "auto".
        format, compression: of the reply's pictures.
        stream, num_partials: whether events are sent, and how many partial pictures.
        seed: as sent or drawn.
        num_inference_steps, guidance_scale, image_guidance_scale: None: the editor's own.
    """

    image: bytes
    mask: bytes | None
    mask_field: Literal["mask", "mask_image"]
    prompt: str
    model: str | None
    n: int
    size: str
    format: Format
    compression: int
    stream: bool
    num_partials: int
    seed: int
    num_inference_steps: int | None
    guidance_scale: float | None
    image_guidance_scale: float | None


async def read_form(
    headers: Headers, body: AsyncIterator[bytes], max_body: int = MAX_BODY
) -> EditForm:
    """Read and check a request's form; it stays in memory.

    Args:
        headers: of the request.
        body: its pieces as they come.
        max_body: bytes.

    Raises:
        ApiError: 400 with the field's name, 413, 415.
    """
    kind, options = parse_options_header(headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        message = f"Send multipart/form-data, not {kind.decode('latin-1') or 'nothing'}."
        raise ApiError(415, "unsupported_media_type", message)
    if not options.get(b"boundary"):
        raise _broken("Content-Type has no boundary")
    parser = _Parser(
        headers,
        _counted(body, max_body),  # type: ignore[arg-type]  # an iterator does
        max_files=len(FILES) + 16,
        max_fields=_MAX_FIELDS,
    )
    try:
        form = await parser.parse()
        if not parser.is_whole:
            raise _broken("it is cut off before its last boundary")
        parts: list[tuple[str, str | bytes]] = []
        for name, part in form.multi_items():
            if isinstance(part, str):
                parts.append((name, part))
            elif part.size or part.filename:  # a page's input where no file was chosen has neither
                parts.append((name, await part.read()))
    except MultiPartException as error:
        raise _broken(error.message) from error
    finally:
        parser.close()
    return checked(parts)


def checked(parts: Sequence[tuple[str, str | bytes]]) -> EditForm:
    """A form's parts, checked.

    Args:
        parts: names with texts, or bytes of those that were sent as files.

    Raises:
        ApiError: 400 with the field's name.
    """
    texts = _texts(parts)
    image = _image(parts)
    mask_field, mask = _mask(parts)
    stream = _one_of(texts, "stream", {"true": True, "false": False}, default=False)
    num_partials = _whole(texts, "partial_images", 0, MAX_PARTIALS, 0)
    n = _whole(texts, "n", 1, MAX_N, 1)
    formats: dict[str, Format] = {"png": "png", "jpeg": "jpeg", "webp": "webp"}
    file_format = _one_of(texts, "output_format", formats, default="png")
    compression = _whole(texts, "output_compression", 0, 100, 100)
    _one_of(texts, "response_format", {"b64_json": None}, default=None)
    _one_of(texts, "background", {"auto": None, "opaque": None}, default=None)
    _one_of(texts, "quality", {"auto": None}, default=None)
    if file_format == "png" and compression != 100:
        raise invalid("output_compression", "png has no loss; give 100 or another output_format")
    if stream and n > 1:
        raise invalid("n", "a stream is of one picture: its events have no number of the picture")
    if num_partials and not stream:
        raise invalid("partial_images", "partial pictures come in a stream: stream=true")
    size = texts.get("size", "auto")
    if size != "auto" and not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", size):
        raise invalid("size", f"expected auto or WIDTHxHEIGHT, not {_shown(size)}")
    if texts.get("model") == "":
        raise invalid("model", "is empty")
    return EditForm(
        image=image,
        mask=mask,
        mask_field=mask_field,
        prompt=_prompt(texts),
        model=texts.get("model"),
        n=n,
        size=size,
        format=file_format,
        compression=compression,
        stream=stream,
        num_partials=num_partials,
        seed=_whole(texts, "seed", 0, MAX_SEED - (n - 1), secrets.randbelow(_DRAWN_SEEDS)),
        num_inference_steps=_whole(texts, "num_inference_steps", 1, MAX_STEPS, None),
        guidance_scale=_real(texts, "guidance_scale", 1, 30),
        image_guidance_scale=_real(texts, "image_guidance_scale", 0, 10),
    )


def reply(files: Sequence[bytes], form: EditForm, size: tuple[int, int]) -> bytes:
    """OpenAI's `ImagesResponse` as JSON, with the seed of the first picture."""
    content = {
        "created": int(time.time()),
        "data": [{"b64_json": _base64(file)} for file in files],
        "background": "opaque",
        "output_format": form.format,
        "size": f"{size[0]}x{size[1]}",
        "usage": _usage(),
        "seed": form.seed,
    }
    return json.dumps(content).encode()


def partial_event(file: bytes, index: int, form: EditForm, size: tuple[int, int]) -> bytes:
    """OpenAI's event of a picture that is not finished; `index` counts from 0."""
    kind = "image_edit.partial_image"
    return _event(kind, {"partial_image_index": index, **_picture(file, form, size)})


def completed_event(file: bytes, form: EditForm, size: tuple[int, int]) -> bytes:
    """OpenAI's event of the finished picture, with its seed."""
    picture = _picture(file, form, size)
    return _event("image_edit.completed", {**picture, "usage": _usage(), "seed": form.seed})


def error_event(error: ApiError) -> bytes:
    """An error after the answer has begun, at which OpenAI's clients raise."""
    return b"event: error\ndata: " + error.body() + b"\n\n"


DONE = b"data: [DONE]\n\n"
"""The end of a stream."""


def _broken(reason: str) -> ApiError:
    return ApiError(400, "invalid_multipart", f"The form cannot be read: {reason}.")


def _event(kind: str, content: Mapping[str, Any]) -> bytes:
    data = json.dumps({"type": kind, **content})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _picture(file: bytes, form: EditForm, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "b64_json": _base64(file),
        "created_at": int(time.time()),
        "size": f"{size[0]}x{size[1]}",
        "quality": "auto",
        "background": "opaque",
        "output_format": form.format,
    }


def _usage() -> dict[str, Any]:
    # Clients' types demand it; no tokens are counted here.
    none = {"image_tokens": 0, "text_tokens": 0}
    return {"input_tokens": 0, "input_tokens_details": none, "output_tokens": 0, "total_tokens": 0}


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


class _Parser(MultiPartParser):
    """Starlette's, which would put files of more than a megabyte on the disk."""

    spool_max_size = MAX_BODY + 1
    is_whole = False

    def on_end(self) -> None:
        """The last boundary has come: without it the last part would be missing in silence."""
        self.is_whole = True

    def close(self) -> None:
        """Free what was read."""
        for file in self._files_to_close_on_error:
            file.close()


async def _counted(body: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        yield piece


def _texts(parts: Sequence[tuple[str, str | bytes]]) -> dict[str, str]:
    """The scalar fields, each once and known."""
    texts: dict[str, str] = {}
    for name, text in parts:
        if name in FILES:
            continue
        if name not in SCALARS:
            advice = _WITHOUT_MEANING.get(name)
            raise ApiError(
                400,
                "unsupported_parameter",
                f"{_shown(name)} is not supported{f': {advice}' if advice else ''}.",
                name[:100],
            )
        if isinstance(text, bytes):
            raise invalid(name, "expected text, not a file")
        if name in texts:
            raise invalid(name, "is given twice", "duplicate_parameter")
        texts[name] = text
    return texts


def _files(parts: Sequence[tuple[str, str | bytes]], names: Sequence[str]) -> list[bytes]:
    files = []
    for name, data in parts:
        if name in names:
            if isinstance(data, str):
                raise invalid(name, "expected a file; with curl, name=@file")
            files.append(data)
    return files


def _image(parts: Sequence[tuple[str, str | bytes]]) -> bytes:
    images = _files(parts, ("image", "image[]"))
    if not images:
        raise invalid("image", "is missing", "missing_required_parameter")
    if len(images) > 1:
        raise invalid("image", f"one picture is edited at a time, {len(images)} were sent")
    return images[0]


def _mask(
    parts: Sequence[tuple[str, str | bytes]],
) -> tuple[Literal["mask", "mask_image"], bytes | None]:
    ours, theirs = _files(parts, ("mask",)), _files(parts, ("mask_image",))
    for name, files in (("mask", ours), ("mask_image", theirs)):
        if len(files) > 1:
            raise invalid(name, "is given twice", "duplicate_parameter")
    if ours and theirs:
        raise invalid("mask_image", "is a mask as well: give one of mask and mask_image")
    if theirs:
        return "mask_image", theirs[0]
    return "mask", ours[0] if ours else None


def _prompt(texts: Mapping[str, str]) -> str:
    prompt = texts.get("prompt")
    if prompt is None:
        raise invalid("prompt", "is missing", "missing_required_parameter")
    # Browsers end a form's lines like this; the same instruction shall give the same picture.
    prompt = prompt.replace("\r\n", "\n")
    if not prompt.strip():
        raise invalid("prompt", "is empty")
    if len(prompt) > MAX_PROMPT:
        raise invalid("prompt", f"has {len(prompt):,} characters, at most {MAX_PROMPT:,} are read")
    # Also the sign that Starlette puts where bytes were no UTF-8.
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffd]", prompt):
        raise invalid("prompt", "has control characters, or is not UTF-8")
    return prompt


def _one_of(
    texts: Mapping[str, str], name: str, values: Mapping[str, _Value], default: _Value
) -> _Value:
    text = texts.get(name)
    if text is None:
        return default
    if text.lower() not in values:
        raise invalid(name, f"expected {' or '.join(values)}, not {_shown(text)}")
    return values[text.lower()]


def _whole(texts: Mapping[str, str], name: str, low: int, high: int, default: Any) -> Any:
    text = texts.get(name)
    if text is None:
        return default
    # `int` also takes other alphabets' digits and underscores.
    if not re.fullmatch(r"[0-9]{1,20}", text) or not low <= int(text) <= high:
        raise invalid(name, f"expected a whole number from {low} to {high}, not {_shown(text)}")
    return int(text)


def _real(texts: Mapping[str, str], name: str, low: float, high: float) -> float | None:
    text = texts.get(name)
    if text is None:
        return None
    value = math.nan
    if re.fullmatch(r"[0-9.]{1,40}([eE][+-]?[0-9]{1,3})?", text):
        value = _float(text)
    if not low <= value <= high:  # also where it is not a number
        raise invalid(name, f"expected a number from {low:g} to {high:g}, not {_shown(text)}")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")

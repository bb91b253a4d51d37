"""What clients send wrongly, with what they are to be told."""

from dataclasses import dataclass, field
from typing import Any

from form_parts import bomb, encoded, openai_mask, photograph, picture, white_mask

URL = "/v1/images/edits"
SIZE = (48, 32)
PICTURE = picture(SIZE)


@dataclass
class Bad:
    """A request and its answer; `sent` are httpx's arguments."""

    name: str
    status: int
    code: str
    param: str | None = None
    sent: dict[str, Any] = field(default_factory=dict)
    method: str = "POST"
    path: str = URL


def form(name: str, code: str, param: str, **fields: Any) -> Bad:
    """A form with a picture and a prompt, but for these fields; None leaves one out."""
    files = [("image", ("a.png", PICTURE, "image/png"))]
    data: dict[str, Any] = {"prompt": "Show what it makes."}
    for key, value in fields.items():
        if key in ("image", "mask", "mask_image") and not isinstance(value, str):
            files = [each for each in files if each[0] != key]
            if value is not None:
                files.append((key, ("x", value, "application/octet-stream")))
        elif value is None:
            data.pop(key)
        else:
            data[key] = value
    if not files:  # httpx would send no multipart form
        return Bad(name, 400, code, param, {"files": {k: (None, v) for k, v in data.items()}})
    return Bad(name, 400, code, param, {"files": files, "data": data})


def _two_pictures(*names: str) -> dict[str, Any]:
    files = [(name, ("a.png", PICTURE, "image/png")) for name in names]
    return {"files": files, "data": {"prompt": "x"}}


NONE, CORNER = (0, 0, 0, 0), (0, 0, 9, 9)

BAD = [
    form("no picture", "missing_required_parameter", "image", image=None),
    form("no prompt", "missing_required_parameter", "prompt", prompt=None),
    form("an empty prompt", "invalid_value", "prompt", prompt=" \n"),
    form("a long prompt", "invalid_value", "prompt", prompt="x" * 4001),
    form("a control character", "invalid_value", "prompt", prompt="a\0b"),
    form("an empty file", "invalid_image", "image", image=b""),
    form("text as a picture", "invalid_image", "image", image=b"no picture at all"),
    form("a GIF", "invalid_image", "image", image=encoded(photograph(SIZE), "GIF")),
    form("an SVG", "invalid_image", "image", image=b"<svg xmlns='x'/>"),
    form("a header alone", "invalid_image", "image", image=PICTURE[:30]),
    form("a picture cut off", "invalid_image", "image", image=PICTURE[:-400]),
    form("a bomb", "too_many_pixels", "image", image=bomb((50_000, 50_000))),
    form("a tiny picture", "invalid_image", "image", image=picture((31, 31))),
    form("a strip", "invalid_image", "image", image=picture((400, 32))),
    form("a mask of another size", "invalid_image", "mask", mask=openai_mask((47, 32), CORNER)),
    form("a mask without alpha", "invalid_image", "mask", mask=white_mask(SIZE, CORNER)),
    form("a mask that keeps all", "invalid_image", "mask", mask=openai_mask(SIZE, NONE)),
    form("a JPEG as mask", "invalid_image", "mask", mask=encoded(photograph(SIZE), "JPEG")),
    form("a black mask_image", "invalid_image", "mask_image", mask_image=white_mask(SIZE, NONE)),
    form(
        "two masks", "invalid_value", "mask_image",
        mask=openai_mask(SIZE, CORNER), mask_image=white_mask(SIZE, CORNER),
    ),
    form("n of 0", "invalid_value", "n", n=0),
    form("n of 11", "invalid_value", "n", n=11),
    form("half an n", "invalid_value", "n", n=1.5),
    form("n and stream", "invalid_value", "n", n=2, stream="true"),
    form("a size that is not listed", "invalid_value", "size", size="1024x1024"),
    form("a size that is none", "invalid_value", "size", size="large"),
    form("a GIF asked for", "invalid_value", "output_format", output_format="gif"),
    form("a lossy PNG", "invalid_value", "output_compression", output_compression=50),
    form("a URL asked for", "invalid_value", "response_format", response_format="url"),
    form("a transparent background", "invalid_value", "background", background="transparent"),
    form("a quality", "invalid_value", "quality", quality="high"),
    form("a stream of maybe", "invalid_value", "stream", stream="maybe"),
    form("four partial", "invalid_value", "partial_images", partial_images=4, stream="true"),
    form("partial pictures of no stream", "invalid_value", "partial_images", partial_images=1),
    form("a negative seed", "invalid_value", "seed", seed=-1),
    form("a seed that is too large", "invalid_value", "seed", seed=2**63),
    form("no steps", "invalid_value", "num_inference_steps", num_inference_steps=0),
    form("a guidance of NaN", "invalid_value", "guidance_scale", guidance_scale="NaN"),
    form("infinity", "invalid_value", "image_guidance_scale", image_guidance_scale="inf"),
    form("input_fidelity", "unsupported_parameter", "input_fidelity", input_fidelity="high"),
    form("a negative prompt", "unsupported_parameter", "negative_prompt", negative_prompt="ugly"),
    form("a URL", "unsupported_parameter", "url", url="http://169.254.169.254/"),
    form("a path", "unsupported_parameter", "perf_dump_path", perf_dump_path="/etc/passwd"),
    form("the same twice", "duplicate_parameter", "seed", seed=["1", "1"]),
    form("a picture as text", "invalid_value", "image", image="https://example.com/a.png"),
    Bad("two pictures", 400, "invalid_value", "image", _two_pictures("image[]", "image[]")),
    Bad("both names", 400, "invalid_value", "image", _two_pictures("image", "image[]")),
    Bad(
        "an unknown model", 404, "model_not_found", "model",
        {"files": {"image": PICTURE}, "data": {"prompt": "x", "model": "gpt-image-2"}},
    ),
    Bad("JSON", 415, "unsupported_media_type", None, {"json": {"prompt": "x"}}),
    Bad("a urlencoded form", 415, "unsupported_media_type", None, {"data": {"prompt": "x"}}),
    Bad("nothing", 415, "unsupported_media_type"),
    Bad(
        "no boundary", 400, "invalid_multipart", None,
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ),
    Bad(
        "a form cut off", 400, "invalid_multipart", None,
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx',
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
    ),
    Bad("26 MB", 413, "request_too_large", None, {"content": bytes(26 * 2**20)}),
    Bad("another method", 405, "method_not_allowed", method="GET"),
    Bad("another address", 404, "not_found", path="/v1/images/generations"),
    Bad("a model that is not there", 404, "model_not_found", "model", {}, "GET", "/v1/models/x"),
    Bad("a way out", 404, "not_found", None, {}, "GET", "/..%2f..%2fapi.py"),
]  # fmt: skip
"""Each is answered in JSON, and the service is as well as before."""

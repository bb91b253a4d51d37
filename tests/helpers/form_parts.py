"""Pictures, masks and multipart forms as clients send them."""

import io
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import PIL.Image


def photograph(size: tuple[int, int], seed: int = 0) -> PIL.Image.Image:
    """Smooth colours with a little noise; no two pixels side by side are alike for long."""
    rng = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, PIL.Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + rng.integers(-6, 7, smooth.shape, dtype=np.int16)
    return PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image: PIL.Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def picture(size: tuple[int, int] = (48, 32), seed: int = 0) -> bytes:
    """A PNG."""
    return encoded(photograph(size, seed))


def bomb(size: tuple[int, int]) -> bytes:
    """A small PNG whose header says that it is large."""
    data = picture()
    header = b"IHDR" + struct.pack(">II", *size) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def openai_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> bytes:
    """A PNG that is fully transparent in the box (left, top, right, bottom)."""
    mask = PIL.Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), box)
    return encoded(mask)


def white_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> bytes:
    """A PNG that is white in the box, black elsewhere."""
    mask = PIL.Image.new("L", size, 0)
    mask.paste(255, box)
    return encoded(mask)


def multipart(
    files: list[tuple[str, tuple[str, bytes, str]]], data: dict[str, Any] | None = None
) -> tuple[dict[str, str], bytes]:
    """Headers and body as httpx sends them."""
    request = httpx.Request("POST", "http://test/", files=files, data=data or {})
    return dict(request.headers), request.read()

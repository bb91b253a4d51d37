"""What a file is by its first bytes: for messages about files that are no picture we read."""

import re

HEAD_BYTES = 256
"""So many of a file's first bytes are enough."""

# In this order; the ISO base media family (HEIC, AVIF) says its brand after "ftyp".
_SIGNATURES: tuple[tuple[str, bytes], ...] = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("WebP", rb"RIFF....WEBP"),
    ("TIFF", rb"II\*\x00|MM\x00\*"),
    ("BMP", rb"BM.{4}\x00{4}"),
    ("JPEG 2000", rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"),
    ("AVIF", rb".{4}ftypavi[fs]"),
    ("HEIC", rb".{4}ftyp(?:hei|hev|mif1|msf1)"),
    ("JPEG XL", rb"\xff\x0a|\x00\x00\x00\x0cJXL "),
    ("an SVG drawing", rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg|<svg)"),
    ("a web page", rb"\s*(?i:<!DOCTYPE html|<html)"),
    ("a pointer of git-lfs, whose file was not fetched", rb"version https://git-lfs"),
    ("a PDF", rb"%PDF"),
    ("an EPS drawing", rb"%!PS"),
    ("a Photoshop file", rb"8BPS"),
    ("an icon file", rb"\x00\x00\x01\x00"),
    ("a ZIP archive", rb"PK\x03\x04"),
    ("a camera's raw file", rb".{4}ftypcrx|IIU\x00|IIR[OS]|FUJIFILMCCD-RAW"),
    ("a video", rb".{4}ftyp|\x1aE\xdf\xa3"),
)

_PICTURES = ("JPEG", "PNG", "GIF", "WebP", "TIFF", "BMP", "JPEG 2000", "AVIF", "HEIC", "JPEG XL")


def kind_of(data: bytes) -> str | None:
    """A file's kind in words, such as "PNG" or "a web page"; None: not known.

    Args:
        data: its content, or the first `HEAD_BYTES` of it.
    """
    head = data[:HEAD_BYTES]
    matches = (kind for kind, form in _SIGNATURES if re.match(form, head, re.DOTALL))
    return next(matches, None)


def is_picture(data: bytes) -> bool:
    """Whether the first bytes are those of a pixel picture, one that we read or not."""
    return kind_of(data) in _PICTURES

import io
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
from form_parts import photograph

from reasonray.serving.mark import SOURCE_TYPE, Format, encode

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
FORMATS: list[Format] = ["png", "jpeg", "webp"]


def opened(data: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(data))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("compression", [100, 80, 0])
def test_the_mark_is_what_readers_of_xmp_find(format: Format, compression: int) -> None:
    image = photograph((60, 40))
    marked, plain = (encode(image, format, compression, mark) for mark in (True, False))
    [description] = ElementTree.fromstring(opened(marked).info["xmp"]).iter(f"{{{RDF}}}Description")
    assert description.attrib[f"{{{IPTC}}}DigitalSourceType"] == SOURCE_TYPE
    assert "xmp" not in opened(plain).info
    assert SOURCE_TYPE.encode() not in plain
    assert 0 < len(marked) - len(plain) < 600
    assert np.array_equal(np.asarray(opened(marked)), np.asarray(opened(plain)))


@pytest.mark.parametrize("format", ["png", "webp"])
def test_nothing_is_lost_at_100(format: Format) -> None:
    image = photograph((61, 43))
    assert np.array_equal(np.asarray(opened(encode(image, format, 100, True))), np.asarray(image))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_less_is_smaller(format: Format) -> None:
    sizes = [len(encode(photograph((200, 150)), format, each, True)) for each in (100, 90, 50, 0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[3] < sizes[0] / 4


def test_no_metadata_of_the_picture_that_was_sent_leaves_with_it() -> None:
    image = photograph((40, 40))
    image.info = {"exif": b"Exif\0\0secret", "xmp": b"secret", "comment": b"secret", "dpi": (1, 1)}
    for each in FORMATS:
        assert b"secret" not in encode(image, each, 90, True)

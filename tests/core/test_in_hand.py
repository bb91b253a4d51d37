import threading

import PIL.Image
import pytest

from reasonray.core import in_hand
from reasonray.core.images import decode, encode_jpeg, encode_png, encode_webp, handed_on
from reasonray.core.record import Image


@pytest.fixture
def image() -> Image:
    return encode_png(PIL.Image.new("RGB", (20, 10), "red"))


def test_within_a_batch_a_file_is_decoded_once_and_let_go_afterwards(image: Image) -> None:
    with in_hand.batch():
        first = decode(image)
        assert decode({**image}) is first
    assert decode(image) is not first
    with in_hand.batch():
        assert in_hand.picture(image["bytes"]) is None


def test_equal_bytes_of_another_row_are_another_file(image: Image) -> None:
    other: Image = {"bytes": bytes(bytearray(image["bytes"])), "path": None}
    with in_hand.batch():
        decode(image)
        assert in_hand.picture(other["bytes"]) is None


@pytest.mark.parametrize("encode", [encode_png, encode_webp, handed_on])
def test_what_is_encoded_without_loss_need_not_be_decoded(encode: object) -> None:
    picture = PIL.Image.new("RGB", (20, 10), "red")
    with in_hand.batch():
        assert decode(encode(picture)) is picture  # type: ignore[operator]


def test_what_a_jpeg_loses_is_lost_within_a_batch_too() -> None:
    picture = PIL.Image.effect_noise((40, 30), 80).convert("RGB")
    with in_hand.batch():
        inside = decode(encode_jpeg(picture))
    assert inside.tobytes() == decode(encode_jpeg(picture)).tobytes() != picture.tobytes()


def test_no_more_is_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_hand, "MAX_BYTES", 2 * 20 * 10 * 4)
    images = [encode_png(PIL.Image.new("RGB", (20, 10), (shade, 0, 0))) for shade in range(3)]
    with in_hand.batch():
        pictures = [decode(image) for image in images]
        again = [decode(image) for image in images]
    assert [a is b for a, b in zip(pictures, again, strict=True)] == [True, True, False]
    assert pictures[2].tobytes() == again[2].tobytes()


def test_threads_have_batches_of_their_own(image: Image) -> None:
    seen = []
    with in_hand.batch():
        decode(image)
        other = threading.Thread(target=lambda: seen.append(in_hand.picture(image["bytes"])))
        other.start()
        other.join()
    assert seen == [None]

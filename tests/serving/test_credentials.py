import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import c2pa
import numpy as np
import PIL.Image
import pytest
from certificates import Key, write_pem
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from form_parts import photograph

from reasonray.core.errors import UserError
from reasonray.serving.credentials import Credentials
from reasonray.serving.mark import SOURCE_TYPE, Format, encode


def ec_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def reader(file: bytes, format: Format) -> c2pa.Reader:
    return c2pa.Reader(f"image/{format}", io.BytesIO(file))


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_reader_sees_who_has_signed_and_that_nothing_was_changed(
    tmp_path: Path, format: Format
) -> None:
    plain = encode(photograph((300, 200)), format, 100, mark=True)
    signed = Credentials(write_pem(tmp_path / "pem", ec_key())).signed(plain, format)
    assert np.array_equal(pixels(signed), pixels(plain))
    assert PIL.Image.open(io.BytesIO(signed)).info["xmp"]
    assert len(signed) - len(plain) < 5_000
    # "Trusted" is for certificates of the list that C2PA's readers carry.
    assert reader(signed, format).get_validation_state() == "Valid"
    manifest = reader(signed, format).get_active_manifest()
    assert manifest is not None
    assert manifest["signature_info"]["common_name"] == "leaf"
    [assertion] = manifest["assertions"]
    [action] = assertion["data"]["actions"]
    assert action["digitalSourceType"] == SOURCE_TYPE


def test_a_reader_sees_that_something_was_changed(tmp_path: Path) -> None:
    plain = encode(photograph((100, 80)), "jpeg", 90, mark=True)
    signed = bytearray(Credentials(write_pem(tmp_path / "pem", ec_key())).signed(plain, "jpeg"))
    signed[-100] ^= 1
    assert reader(bytes(signed), "jpeg").get_validation_state() == "Invalid"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ],
)
def test_each_kind_of_key_that_authorities_use(tmp_path: Path, key: Key) -> None:
    signed = Credentials(write_pem(tmp_path / "pem", key)).signed(
        encode(photograph((40, 40)), "png", 100, mark=False), "png"
    )
    assert reader(signed, "png").get_validation_state() == "Valid"


def test_many_threads_sign_at_once(tmp_path: Path) -> None:
    credentials = Credentials(write_pem(tmp_path / "pem", ec_key()))
    plain = encode(photograph((64, 64)), "png", 100, mark=False)
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda _: credentials.signed(plain, "png"), range(40)))
    states = {reader(file, "png").get_validation_state() for file in files}
    labels = {json.loads(reader(file, "png").json())["active_manifest"] for file in files}
    assert states == {"Valid"}
    assert len(labels) == len(files)


def test_what_cannot_sign_is_refused_before_a_picture_is_made(tmp_path: Path) -> None:
    whole = write_pem(tmp_path / "pem", ec_key())
    other = write_pem(tmp_path / "other", ec_key()).read_text()
    certificates, _, key = whole.read_text().partition("-----BEGIN PRIVATE")
    (tmp_path / "no-key").write_text(certificates)
    (tmp_path / "no-certificate").write_text(f"-----BEGIN PRIVATE{key}")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    (tmp_path / "of-two").write_text(certificates + other[other.index("-----BEGIN PRIVATE") :])
    (tmp_path / "damaged").write_text(
        f"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE{key}"
    )
    write_pem(tmp_path / "expired", ec_key(), days=-1)
    write_pem(tmp_path / "of-a-server", ec_key(), usage=ExtendedKeyUsageOID.SERVER_AUTH)
    for name, words in {
        "absent": "No such file",
        "no-key": "has no key",
        "no-certificate": "has no certificate",
        "binary": "cannot be read",
        "damaged": "is damaged or of an unknown kind",
        "expired": "not today",
        "of-two": "cannot sign with it",
        "of-a-server": "cannot sign with it",
    }.items():
        with pytest.raises(UserError, match=f"^c2pa: .*/{name}: .*{words}"):
            Credentials(tmp_path / name)

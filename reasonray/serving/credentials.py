"""Sign a reply's picture: C2PA Content Credentials, which say who made it and with what.

A mark in plain metadata can be written by anybody; this one is signed by the service's certificate,
and a reader tells whether the picture is still the one that was signed. Works offline.
"""

import datetime
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image

from reasonray.core.errors import UserError
from reasonray.core.extras import explained
from reasonray.core.version import __version__
from reasonray.serving.mark import SOURCE_TYPE, Format, encode

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)

_CLAIM = {
    "claim_generator_info": [{"name": "reasonray", "version": __version__}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {
                        # Not c2pa.edited, whose parent would have to be shown in the picture.
                        "action": "c2pa.created",
                        "digitalSourceType": SOURCE_TYPE,
                        "softwareAgent": {"name": "reasonray", "version": __version__},
                    }
                ]
            },
        }
    ],
}


class Credentials:
    """Signs pictures with one certificate; for many threads.

    Args:
        path: PEM file of the certificate, those that vouch for it after it, and the private key.

    Raises:
        UserError: the file does not have these, they do not belong together, the certificate is not
            valid today or not for such signatures, or the extra is missing.
    """

    def __init__(self, path: Path) -> None:
        with explained("c2pa"):
            import c2pa
            import cryptography.exceptions
            import cryptography.x509
        chain, key = _pem(path)
        try:
            certificate = cryptography.x509.load_pem_x509_certificates(chain.encode())[0]
            algorithm = _algorithm(path, certificate)
        except (ValueError, cryptography.exceptions.UnsupportedAlgorithm) as error:
            raise UserError(
                f"c2pa: {path}: its certificate is damaged or of an unknown kind ({error})"
            ) from error
        _refuse_another_day(path, certificate)
        self._builder = c2pa.Builder
        # A thumbnail would be as large as the picture.
        settings = c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
        self._context = c2pa.Context(settings=settings)
        try:
            info = c2pa.C2paSignerInfo(algorithm, chain.encode(), key.encode(), None)
            self._signer = c2pa.Signer.from_info(info)
            # What is wrong with a certificate shows when something is signed.
            self.signed(encode(PIL.Image.new("RGB", (8, 8)), "png", 100, mark=False), "png")
        except c2pa.C2paError as error:
            raise UserError(
                f"c2pa: {path}: cannot sign with it ({error}); expected a certificate for C2PA, "
                "those that vouch for it, and its private key (PKCS#8)"
            ) from error

    def signed(self, picture: bytes, format: Format) -> bytes:
        """The file with the signed claim in it, some 3 KB more.

        Args:
            picture: a file, as `mark.encode` gives it.
            format: of the file.
        """
        result = io.BytesIO()
        builder = self._builder(_CLAIM, self._context)
        builder.sign(self._signer, f"image/{format}", io.BytesIO(picture), result)
        return result.getvalue()


def _pem(path: Path) -> tuple[str, str]:
    """The certificates and the key of a PEM file, as text."""
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"c2pa: {path}: cannot be read ({error}); expected a PEM file of the certificates and "
            "the private key"
        ) from error
    blocks = {"certificate": "", "key": ""}
    for block in _BLOCK.finditer(text):
        kind = "certificate" if block[1] == "CERTIFICATE" else "key"
        if kind == "certificate" or block[1].endswith("PRIVATE KEY"):
            blocks[kind] += f"{block[0].rstrip()}\n"
    for kind, content in blocks.items():
        if not content:
            raise UserError(
                f"c2pa: {path}: has no {kind}; expected the certificate, those that vouch for it "
                "after it, and the private key in one PEM file (cat chain.pem key.pem)"
            )
    return blocks["certificate"], blocks["key"]


def _refuse_another_day(path: Path, certificate: "Certificate") -> None:
    now = datetime.datetime.now(datetime.UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        raise UserError(
            f"c2pa: {path}: the certificate is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, "
            "not today; give one that is"
        )


def _algorithm(path: Path, certificate: "Certificate") -> str:
    """C2PA's name of the signatures that a certificate's key makes."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        names = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if name := names.get(key.curve.name):
            return name
    elif isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    elif isinstance(key, rsa.RSAPublicKey):
        return "ps256"
    raise UserError(
        f"c2pa: {path}: its kind of key is none of C2PA's; expected EC (P-256, P-384 or P-521), "
        "Ed25519 or RSA"
    )

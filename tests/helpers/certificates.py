"""A certificate as an authority would give it, and its key, in one PEM file."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def write_pem(
    path: Path, key: Key, *, days: float = 1, usage: x509.ObjectIdentifier | None = None
) -> Path:
    """A leaf and its root, both new.

    Args:
        path: where to.
        key: of the leaf.
        days: from now to its end; it began 2 days ago.
        usage: what it is for; by default what C2PA takes.
    """
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = _certificate("root", root_key.public_key(), root_key, days=30, usage=None)
    leaf = _certificate(
        "leaf", key.public_key(), root_key, days, usage or ExtendedKeyUsageOID.EMAIL_PROTECTION
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificates = [each.public_bytes(serialization.Encoding.PEM) for each in (leaf, root)]
    path.write_bytes(b"".join([*certificates, private]))
    return path


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey,
    root_key: ec.EllipticCurvePrivateKey,
    days: float,
    usage: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    is_root = usage is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("root"))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_root,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=is_root,
                crl_sign=is_root,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(root_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    words = {NameOID.ORGANIZATION_NAME: "a studio", NameOID.COMMON_NAME: common}
    return x509.Name([x509.NameAttribute(oid, word) for oid, word in words.items()])

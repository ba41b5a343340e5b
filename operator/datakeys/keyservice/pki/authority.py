"""Build and judge certificates, CAs and leaves. Pure but for the keys' randomness.

Zone: private keys of TLS as PEM; the clock is an argument, in seconds since the epoch. Source: RFC 5280;
CA/Browser profile of key usages.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SECONDS_PER_DAY: Final = 86_400
#: A certificate is renewed when this part of its life is left.
RENEW_AT: Final = 1 / 3
#: Clocks of clients may be behind by that much.
_SKEW_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long certificates are valid, and for how long a new CA is published before it signs, in seconds.

    Raises:
        ValueError: A leaf could outlive its CA, or a CA could end before its successor signs.
    """

    ca: float = 3650.0 * SECONDS_PER_DAY
    leaf: float = 90.0 * SECONDS_PER_DAY
    overlap: float = 7.0 * SECONDS_PER_DAY

    def __post_init__(self) -> None:
        if not 0 < self.leaf <= self.ca / 3 or not 0 < self.overlap <= self.ca / 6:
            raise ValueError("a CA must live 3 times as long as a leaf, and 6 times as long as the overlap")


@dataclass(frozen=True, slots=True)
class Generation:
    """One CA.

    Attributes:
        key_pem: "" if the key is lost: what it has signed is still trusted.
        published_at: Since when it is published, in seconds since the epoch; None: it isn't yet.
    """

    certificate_pem: str
    key_pem: str = field(repr=False)
    published_at: float | None = None

    @property
    def expires_at(self) -> float:
        """Return the end of its validity in seconds since the epoch."""
        return _load(self.certificate_pem).not_valid_after_utc.timestamp()

    def is_valid(self, now: float) -> bool:
        """Return whether the certificate is valid: neither too old nor from a clock that was ahead."""
        return _is_valid(self.certificate_pem, now)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A serving certificate and its key."""

    certificate_pem: str
    key_pem: str = field(repr=False)

    @property
    def expires_at(self) -> float:
        """Return the end of its validity in seconds since the epoch."""
        return _load(self.certificate_pem).not_valid_after_utc.timestamp()


def build_generation(now: float, lifetimes: Lifetimes) -> Generation:
    """Return a new CA with a P-256 key, valid from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    # No two CAs have one name: a client looks for a leaf's issuer by name.
    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"datakeys CA {digest[:16]}")])
    certificate = (
        _builder(name, name, key.public_key(), now, lifetimes.ca)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Generation(_pem(certificate), _key_pem(key))


def build_leaf(generation: Generation, dns_names: list[str], now: float, lifetimes: Lifetimes) -> Leaf:
    """Return a serving certificate for the DNS names, signed by a CA, valid from now."""
    issuer = _load(generation.certificate_pem)
    issuer_key = serialization.load_pem_private_key(generation.key_pem.encode(), None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the CA key must be an elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_names[0])])
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names])
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), now, lifetimes.leaf)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return Leaf(_pem(certificate), _key_pem(key))


def parse_generation(certificate_pem: str, key_pem: str, published_at: float | None) -> Generation:
    """Return a CA as it was stored; a key that isn't the certificate's counts as lost.

    Raises:
        ValueError: The certificate can't be read.
    """
    fits = _fits(certificate_pem, key_pem)
    return Generation(certificate_pem, key_pem if fits else "", published_at)


def adopt_bundle(bundle: str) -> list[Generation]:
    """Return the CAs of a bundle whose keys are lost; none if it can't be read."""
    try:
        certificates = x509.load_pem_x509_certificates(bundle.encode())
    except ValueError:
        return []
    return [Generation(_pem(certificate), "") for certificate in certificates]


def find_issuer(leaf: Leaf, generations: Sequence[Generation], now: float) -> Generation | None:
    """Return the CA that has signed a leaf, if it is one of these and valid."""
    for generation in generations:
        try:
            _load(leaf.certificate_pem).verify_directly_issued_by(_load(generation.certificate_pem))
        except (ValueError, TypeError, InvalidSignature):
            continue
        return generation if generation.is_valid(now) else None
    return None


def build_bundle(generations: Sequence[Generation]) -> str:
    """Return all CA certificates as PEM."""
    return "".join(generation.certificate_pem for generation in generations)


def is_leaf_fit(leaf: Leaf, dns_names: list[str], now: float) -> bool:
    """Return whether a leaf has its key, names the service, is valid, and isn't due for renewal."""
    try:
        fits = _fits(leaf.certificate_pem, leaf.key_pem)
        names = _load(leaf.certificate_pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound):
        return False
    if not fits or names.value.get_values_for_type(x509.DNSName) != dns_names:
        return False
    return _is_valid(leaf.certificate_pem, now) and not is_renewal_due(leaf.certificate_pem, now)


def is_renewal_due(certificate_pem: str, now: float) -> bool:
    """Return whether two thirds of a certificate's life are over."""
    certificate = _load(certificate_pem)
    start = certificate.not_valid_before_utc.timestamp() + _SKEW_SECONDS
    end = certificate.not_valid_after_utc.timestamp()
    return now >= end - (end - start) * RENEW_AT


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, seconds: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime.fromtimestamp(now - _SKEW_SECONDS, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(now + seconds, dt.UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _fits(certificate_pem: str, key_pem: str) -> bool:
    """Return whether a private key belongs to a certificate; ValueError: the certificate can't be read."""
    certificate = _load(certificate_pem)
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), None)
    except (ValueError, TypeError):
        return False
    return key.public_key() == certificate.public_key()


def _is_valid(certificate_pem: str, now: float) -> bool:
    certificate = _load(certificate_pem)
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return start <= now < end


def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()

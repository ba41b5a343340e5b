"""Build and judge certificates: a CA of ten years, leaves of ninety days. Pure but for the keys' randomness.

Zone: private keys of TLS as PEM; the clock is an argument. Source: RFC 5280; CA/Browser profile of key
usages.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SECONDS_PER_DAY: Final = 86_400
CA_DAYS: Final = 3650
LEAF_DAYS: Final = 90
#: A certificate is renewed when this part of its life is over.
RENEW_AT: Final = 2 / 3
#: A new CA is in the bundle this long before it signs anything.
OVERLAP_SECONDS: Final = 7 * SECONDS_PER_DAY
_SKEW_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Generation:
    """One CA. ``active_from`` (seconds since the epoch): from then on it signs."""

    certificate_pem: str
    key_pem: str = field(repr=False)
    active_from: float

    @property
    def expires_at(self) -> float:
        """Return the end of its validity in seconds since the epoch."""
        return _load(self.certificate_pem).not_valid_after_utc.timestamp()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A serving certificate and its key."""

    certificate_pem: str
    key_pem: str = field(repr=False)

    @property
    def expires_at(self) -> float:
        """Return the end of its validity in seconds since the epoch."""
        return _load(self.certificate_pem).not_valid_after_utc.timestamp()


def build_generation(now: float, active_from: float) -> Generation:
    """Return a new CA with a P-256 key, valid from now for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"datakeys CA {int(now)}")])
    certificate = (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Generation(_pem(certificate), _key_pem(key), active_from)


def build_leaf(generation: Generation, dns_names: list[str], now: float) -> Leaf:
    """Return a serving certificate for the DNS names, signed by a CA, valid from now for ninety days."""
    issuer = _load(generation.certificate_pem)
    issuer_key = serialization.load_pem_private_key(generation.key_pem.encode(), None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the CA key must be an elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_names[0])])
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names])
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), now, LEAF_DAYS)
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


def decide_generations(generations: list[Generation], now: float) -> list[Generation] | None:
    """Return the generations as they should be, or None if they are right.

    Expired ones go. The first CA signs at once; a successor is made when two thirds of the newest one's life
    are over, and signs only after a week in the bundle.
    """
    alive = [generation for generation in generations if generation.expires_at > now]
    if not alive:
        return [build_generation(now, now)]
    if is_renewal_due(alive[-1].certificate_pem, now):
        return [*alive, build_generation(now, now + OVERLAP_SECONDS)]
    return alive if len(alive) != len(generations) else None


def choose_signer(generations: list[Generation], now: float) -> Generation:
    """Return the newest CA that may sign already."""
    active = [generation for generation in generations if generation.active_from <= now]
    return active[-1] if active else generations[0]


def build_bundle(generations: list[Generation]) -> str:
    """Return all CA certificates as PEM."""
    return "".join(generation.certificate_pem for generation in generations)


def is_leaf_fit(leaf: Leaf, signer: Generation, dns_names: list[str], now: float) -> bool:
    """Return whether a leaf is signed by the CA, names the service, and isn't due for renewal."""
    try:
        certificate = _load(leaf.certificate_pem)
        certificate.verify_directly_issued_by(_load(signer.certificate_pem))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        same_names = names.get_values_for_type(x509.DNSName) == dns_names
    except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature):
        return False
    return same_names and not is_renewal_due(leaf.certificate_pem, now)


def is_renewal_due(certificate_pem: str, now: float) -> bool:
    """Return whether two thirds of a certificate's life are over."""
    certificate = _load(certificate_pem)
    start = certificate.not_valid_before_utc.timestamp()
    end = certificate.not_valid_after_utc.timestamp()
    return now >= start + (end - start) * RENEW_AT


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime.fromtimestamp(now - _SKEW_SECONDS, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(now + days * SECONDS_PER_DAY, dt.UTC))
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


def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()

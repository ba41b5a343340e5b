"""The serving certificate: load it from the mounted Secret, and see when the kubelet replaces it.

Zone: the webhook's own TLS key passes through to OpenSSL; nothing else is known here. The key service renews
the Secret, or cert-manager does; this module only reads.
"""

import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FILES: Final = ("tls.crt", "tls.key", "ca.crt")


class CertificateError(Exception):
    """The files are missing, don't belong together, or aren't valid now; the message says which."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One generation of the files.

    Attributes:
        ca_pem: The authority's certificates, PEM.
        issuer_pem: The one of them that has signed the certificate; all, if none of them has it directly.
        expires: End of the certificate, in seconds since the epoch.
        ca_expires: End of the authority's certificate that has signed it, in the same unit.
        version: Tells this generation from others.
    """

    ca_pem: str
    issuer_pem: str
    expires: float
    ca_expires: float
    version: tuple[object, ...]


class CertificateStore:
    """One SSLContext for the life of the process; new handshakes get what is served last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._checked: Loaded | None = None
        self.context = _build_server_context()
        self.loaded: Loaded | None = None

    def look(self) -> Loaded | None:
        """Return what the files hold now, if it isn't served already. Unchanged files cost three stat calls.

        Raises:
            CertificateError: They can't be used; what was loaded before goes on to be served, and the next
                call tries again.
        """
        folder = self._find_folder()
        version = _read_version(folder)
        if self._checked is None or self._checked.version != version:
            self._checked = None
            self._checked = _check(folder, version)
        return None if self._checked == self.loaded else self._checked

    def serve(self, found: Loaded) -> None:
        """Serve what ``look`` has just returned.

        Raises:
            CertificateError: The files have changed since; the next look finds others.
        """
        folder = self._find_folder()
        if _read_version(folder) != found.version:
            raise CertificateError("the files are being replaced")
        # Checked in a context of its own before: a failed load leaves OpenSSL with half a pair.
        self.context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self.loaded = found

    def _find_folder(self) -> Path:
        """Return the folder of one generation: the kubelet swaps the link ``..data`` in one step."""
        data = self._directory / "..data"
        return data.resolve() if data.is_symlink() else self._directory


def _build_server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _read_version(folder: Path) -> tuple[object, ...]:
    try:
        states = [(folder / name).stat() for name in _FILES]
    except OSError:
        raise CertificateError(f"{', '.join(_FILES)}: not all are there yet") from None
    return (folder, *((state.st_ino, state.st_mtime_ns, state.st_size) for state in states))


def _check(folder: Path, version: tuple[object, ...]) -> Loaded:
    """Load the files into contexts of their own and let them shake hands in memory.

    That proves at once that key and certificate belong together, that the certificate comes from ``ca.crt``
    and is valid now, and tells when it ends.
    """
    server_context = _build_server_context()
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    try:
        ca_pem = (folder / "ca.crt").read_text(encoding="ascii")
        server_context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        client_context.load_verify_locations(cadata=ca_pem)
        certificate = _shake_hands(server_context, client_context)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(f"tls.crt isn't valid under ca.crt: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise CertificateError(f"the files don't fit together: {error.reason}") from None
    except (OSError, ValueError):
        raise CertificateError("a file can't be read") from None
    authorities = [
        *zip(client_context.get_ca_certs(), client_context.get_ca_certs(binary_form=True), strict=True)
    ]
    signers = [one for one in authorities if one[0]["subject"] == certificate["issuer"]] or authorities
    return Loaded(
        ca_pem,
        "".join(ssl.DER_cert_to_PEM_cert(der) for _, der in signers),
        _find_end(certificate),
        max(_find_end(authority) for authority, _ in signers),
        version,
    )


def _shake_hands(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> dict[str, Any]:
    """Return the server's certificate as ``ssl`` shows it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    # Two flights each at most; OpenSSL asks for the peer's bytes in between.
    for side in (client, server, client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return dict(client.getpeercert() or {})


def _find_end(certificate: Mapping[str, Any]) -> float:
    """Return the end of a certificate's validity, in seconds since the epoch."""
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))

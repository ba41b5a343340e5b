"""Whom the sidecar trusts. Zone: no secrets: certificates are public."""

import ssl
from typing import Final

from datakeys.sidecar.advice import Failure

#: SSL_OP_CLEANSE_PLAINTEXT: OpenSSL overwrites its copy of what it has decrypted, instead of keeping it until
#: the next answer. Python has no name for it. Source: SSL_CTX_set_options(3), since OpenSSL 3.0.
_CLEANSE_PLAINTEXT: Final = 1 << 1


def build_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts the authority of the cluster's key service and nothing else, TLS 1.3 only.

    Raises:
        Failure: ``MissingInput``: the file isn't there, or no certificate is in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= _CLEANSE_PLAINTEXT
    try:
        context.load_verify_locations(ca_file)
    except OSError:
        raise Failure("MissingInput", retryable=True) from None
    return context

"""Whom the sidecar trusts. Zone: no secrets: certificates are public."""

import ssl

from datakeys.sidecar.advice import Failure


def build_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts the authority of the cluster's key service and nothing else, TLS 1.3 only.

    Raises:
        Failure: ``MissingInput``: the file isn't there, or no certificate is in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(ca_file)
    except OSError:
        raise Failure("MissingInput", retryable=True) from None
    return context

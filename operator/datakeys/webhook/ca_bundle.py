"""Keeps the ``caBundle`` of the webhook configuration equal to ``ca.crt`` of this webhook's certificate.

Zone: no secrets: certificates are public.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


class ConfigurationApi(Protocol):
    """The calls that are needed of the API server."""

    def get_ca_bundles(self) -> list[str]:
        """Return the ``caBundle`` (base64) of each webhook of the configuration."""

    def patch_configuration(self, patch: list[dict[str, Any]]) -> None:
        """Apply a JSON patch."""


def decide_patch(present: Sequence[str], ca_pem: str, *, changed: bool) -> list[dict[str, Any]]:
    """Return the JSON patch that sets the bundle where it has to be set; empty if nowhere.

    Two replicas see a renewed Secret up to a minute apart. So that they don't undo each other's work, a
    replica whose own files haven't changed leaves a bundle alone that has all of its certificates and more.

    Args:
        present: The bundles as they are, in base64.
        ca_pem: This webhook's ``ca.crt``.
        changed: Whether ``ca.crt`` is new to this process.
    """
    wanted = base64.b64encode(ca_pem.encode()).decode()
    mine = _find_certificates(ca_pem)
    patch: list[dict[str, Any]] = []
    for index, bundle in enumerate(present):
        enough = bundle == wanted if changed else mine <= _find_certificates(_decode(bundle))
        if not enough:
            path = f"/webhooks/{index}/clientConfig/caBundle"
            patch.append({"op": "add", "path": path, "value": wanted})
    return patch


class CaBundleKeeper:
    """Compares and sets the bundle; ``done`` tells whether the present one has been set."""

    def __init__(self, api: ConfigurationApi) -> None:
        self._api = api
        self._set_pem = ""

    def is_done(self, ca_pem: str) -> bool:
        """Return whether this bundle has been seen or set in the configuration."""
        return self._set_pem == ca_pem

    def sync(self, ca_pem: str) -> bool:
        """Set the bundle if it differs; return whether it was written. Blocks; the API's errors pass through.

        Raises:
            LookupError: The configuration has no webhooks.
        """
        present = self._api.get_ca_bundles()
        if not present:
            raise LookupError("the MutatingWebhookConfiguration has no webhooks")
        patch = decide_patch(present, ca_pem, changed=not self.is_done(ca_pem))
        if patch:
            self._api.patch_configuration(patch)
        self._set_pem = ca_pem
        return bool(patch)


def _find_certificates(pem: str) -> set[str]:
    return {"".join(body.split()) for body in _CERTIFICATE.findall(pem)}


def _decode(bundle: str) -> str:
    try:
        return base64.b64decode(bundle).decode("ascii", "replace")
    except binascii.Error:
        return ""

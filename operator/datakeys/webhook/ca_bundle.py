"""Keeps the ``caBundle`` of the webhook configuration such that the API server trusts every replica.

Zone: no secrets: certificates are public.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
#: A former CA leaves the bundle that long after this process' files have changed: by then the kubelets have
#: brought the new files to all replicas.
TIDY_SECONDS: Final = 600.0


class ConfigurationApi(Protocol):
    """The calls that are needed of the API server."""

    def get_ca_bundles(self) -> list[str]:
        """Return the ``caBundle`` (base64) of each webhook of the configuration."""

    def patch_configuration(self, patch: list[dict[str, Any]]) -> None:
        """Apply a JSON patch."""


def decide_patch(present: Sequence[str], ca_pem: str, *, tidy: bool) -> list[dict[str, Any]]:
    """Return the JSON patch that sets the bundle where it has to be set; empty if nowhere.

    Replicas see a renewed Secret up to two minutes apart, so each adds what it needs and takes nothing away
    from the others, but when it tidies up.

    Args:
        present: The bundles as they are, in base64.
        ca_pem: The certificates that this replica needs.
        tidy: Remove all others.
    """
    mine = find_certificates(ca_pem)
    patch: list[dict[str, Any]] = []
    for index, bundle in enumerate(present):
        text = _decode(bundle)
        there = find_certificates(text)
        if there == mine if tidy else mine <= there:
            continue
        kept = "" if tidy or not there else "".join(f"{one.group()}\n" for one in _CERTIFICATE.finditer(text))
        missing = ca_pem if not kept else _pick(ca_pem, mine - there)
        value = base64.b64encode((kept + missing).encode()).decode()
        path = f"/webhooks/{index}/clientConfig/caBundle"
        if bundle:  # refused if another replica has changed it since
            patch.append({"op": "test", "path": path, "value": bundle})
        patch.append({"op": "add", "path": path, "value": value})
    return patch


class CaBundleKeeper:
    """Compares and sets the bundle, and remembers since when the API server trusts which certificates.

    Args:
        api: The configuration.
        managed: False: somebody else sets the bundle, such as cert-manager; here it is only read.
        clock: Seconds of a clock that never jumps.
    """

    def __init__(self, api: ConfigurationApi, *, managed: bool, clock: Callable[[], float]) -> None:
        self._api = api
        self._managed = managed
        self._clock = clock
        self._trusted_since: dict[str, float] = {}
        self._own = ""
        self._tidy_at: float | None = None

    def trusted_seconds(self, ca_pem: str) -> float | None:
        """Return for how long all of these certificates have been in the bundle; None: they aren't."""
        since = [self._trusted_since.get(one) for one in find_certificates(ca_pem)]
        known = [one for one in since if one is not None]
        return self._clock() - max(known) if known and len(known) == len(since) else None

    def sync(self, served: str, pending: str = "") -> bool:
        """Set the bundle if it has to be set; return whether it was written. Blocks; API errors pass through.

        Args:
            served: ``ca.crt`` of the certificate that is served, as PEM.
            pending: The one of the certificate that is to be served next, if there is any.

        Raises:
            LookupError: The configuration has no webhooks.
        """
        present = self._api.get_ca_bundles()
        if not present:
            raise LookupError("the MutatingWebhookConfiguration has no webhooks")
        if served != self._own:
            self._own, self._tidy_at = served, self._clock() + TIDY_SECONDS
        tidy = not pending and self._tidy_at is not None and self._clock() >= self._tidy_at
        wanted = served + _pick(pending, find_certificates(pending) - find_certificates(served))
        patch = decide_patch(present, wanted, tidy=tidy) if self._managed else []
        if patch:
            self._api.patch_configuration(patch)
            present = [*present]
            for operation in (one for one in patch if one["op"] == "add"):
                present[int(operation["path"].split("/")[2])] = operation["value"]
        if tidy:
            self._tidy_at = None
        self._note(present)
        return bool(patch)

    def _note(self, present: Sequence[str]) -> None:
        everywhere = set.intersection(*(find_certificates(_decode(bundle)) for bundle in present))
        now = self._clock()
        self._trusted_since = {one: self._trusted_since.get(one, now) for one in everywhere}


def find_certificates(pem: str) -> set[str]:
    """Return the certificates of a bundle, without line breaks, so that they compare."""
    return {"".join(body.split()) for body in _CERTIFICATE.findall(pem)}


def _pick(pem: str, wanted: set[str]) -> str:
    found = _CERTIFICATE.finditer(pem)
    return "".join(f"{one.group()}\n" for one in found if "".join(one.group(1).split()) in wanted)


def _decode(bundle: str) -> str:
    try:
        return base64.b64decode(bundle).decode("ascii", "replace")
    except binascii.Error:
        return ""

"""Takes the serving certificate from its files into service, never before the API server trusts it.

Zone: no secrets; the TLS key stays in `certificates`.
"""

import asyncio
import logging
import time
from typing import Final

from urllib3.exceptions import HTTPError

from datakeys.webhook.ca_bundle import CaBundleKeeper
from datakeys.webhook.certificates import CertificateError, CertificateStore, Loaded
from datakeys.webhook.kubernetes_api import ApiError
from datakeys.webhook.logs import log_event
from datakeys.webhook.metrics import Metrics

#: How often the mounted files are looked at: three stat calls.
CERTIFICATE_SECONDS: Final = 3.0
#: How often the configuration is compared, in case somebody else has changed it.
BUNDLE_SECONDS: Final = 30.0
#: How long API servers take to hear of a changed configuration, generously: they watch it.
SETTLE_SECONDS: Final = 10.0
FIRST_RETRY_SECONDS: Final = 0.5


class CertificateCare:
    """The loop's state: which certificate is served, which one is next, what the API server trusts."""

    def __init__(self, store: CertificateStore, bundle: CaBundleKeeper, metrics: Metrics) -> None:
        self._store = store
        self._bundle = bundle
        self._metrics = metrics
        self._pending: Loaded | None = None
        self._bundle_due = 0.0
        self._bundle_delay = FIRST_RETRY_SECONDS
        self._error = ""

    @property
    def is_loaded(self) -> bool:
        """Return whether there is a certificate to serve."""
        return self._store.loaded is not None

    def find_pause(self) -> float:
        """Return after how many seconds to refresh again."""
        if not self.is_loaded:
            return FIRST_RETRY_SECONDS
        return min(CERTIFICATE_SECONDS, max(0.0, self._bundle_due - time.monotonic()))

    def find_obstacle(self) -> str:
        """Return why the API server can't call here, or ""."""
        loaded = self._store.loaded
        if not loaded:
            return "no serving certificate yet"
        if loaded.expires < time.time():
            return "the serving certificate has expired"
        return "" if self._bundle.trusted_seconds(loaded.issuer_pem) is not None else "caBundle isn't set yet"

    async def refresh(self) -> None:
        """Look at the files; serve what is in them once it is trusted; compare the bundle if it is due."""
        self._look()
        if self._pending and self._may_serve(self._pending):
            self._serve(self._pending)
        loaded = self._store.loaded
        if loaded and time.monotonic() >= self._bundle_due:
            await self._sync_bundle(loaded, self._pending)

    def _look(self) -> None:
        try:
            found = self._store.look()
        except CertificateError as error:
            self._refuse(error)
            return
        self._error = ""
        if found is not None and found != self._pending:
            self._bundle_due = 0.0
        self._pending = found

    def _may_serve(self, found: Loaded) -> bool:
        """Return whether nothing valid is served, or API servers have had the time to trust the new CA."""
        loaded = self._store.loaded
        if loaded is None or loaded.expires < time.time() + CERTIFICATE_SECONDS:
            return True
        trusted_seconds = self._bundle.trusted_seconds(found.issuer_pem)
        return trusted_seconds is not None and trusted_seconds >= SETTLE_SECONDS

    def _serve(self, found: Loaded) -> None:
        try:
            self._store.serve(found)
        except CertificateError as error:
            self._refuse(error)
            return
        self._pending = None
        self._bundle_due = 0.0
        self._metrics.certificate_expiry.set(found.expires)
        self._metrics.ca_expiry.set(found.ca_expires)
        log_event("certificate_loaded", expires=int(found.expires))

    def _refuse(self, error: CertificateError) -> None:
        if str(error) != self._error:
            log_event("certificate_refused", level=logging.WARNING, reason=str(error))
        self._error = str(error)
        self._pending = None

    async def _sync_bundle(self, loaded: Loaded, pending: Loaded | None) -> None:
        try:
            if await asyncio.to_thread(self._bundle.sync, loaded.ca_pem, pending.ca_pem if pending else ""):
                log_event("ca_bundle_set")
        except (ApiError, HTTPError, OSError, LookupError) as error:
            status = getattr(error, "status", None)
            log_event("ca_bundle_failed", level=logging.WARNING, error=type(error).__name__, status=status)
            self._compare_soon()
            return
        if self._bundle.trusted_seconds((pending or loaded).issuer_pem) is None:
            self._compare_soon()  # somebody else is to set it
            return
        self._bundle_delay = FIRST_RETRY_SECONDS
        self._bundle_due = time.monotonic() + BUNDLE_SECONDS

    def _compare_soon(self) -> None:
        self._bundle_due = time.monotonic() + self._bundle_delay
        self._bundle_delay = min(BUNDLE_SECONDS, self._bundle_delay * 2)

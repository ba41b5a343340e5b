"""Two listeners, and a loop that keeps certificate and caBundle fresh. Zone: no secrets."""

import asyncio
import contextlib
import logging
import signal
import time
from typing import Final

from aiohttp import web
from urllib3.exceptions import HTTPError

from datakeys.webhook.admission import AdmissionHandler, RequestLookup
from datakeys.webhook.ca_bundle import CaBundleKeeper, ConfigurationApi
from datakeys.webhook.certificates import CertificateError, CertificateStore
from datakeys.webhook.health import build_health_application
from datakeys.webhook.kubernetes_api import ApiError
from datakeys.webhook.logs import log_event
from datakeys.webhook.metrics import Metrics
from datakeys.webhook.settings import Address, Settings

#: How often the mounted files are looked at: three stat calls.
CERTIFICATE_SECONDS: Final = 3.0
#: How often the configuration is compared, in case somebody else has changed it.
BUNDLE_SECONDS: Final = 30.0
_FIRST_RETRY_SECONDS: Final = 0.5
#: After SIGTERM the API server may send reviews until every node knows that this pod is going.
DRAIN_SECONDS: Final = 5.0
_FINISH_SECONDS: Final = 10.0


class Webhook:
    """The running process."""

    def __init__(
        self,
        settings: Settings,
        lookup: RequestLookup,
        configuration: ConfigurationApi,
        *,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._settings = settings
        self._drain_seconds = drain_seconds
        self._metrics = Metrics()
        self._admission = AdmissionHandler(lookup, settings.sidecar, self._metrics)
        self._certificates = CertificateStore(settings.tls_directory)
        self._bundle = CaBundleKeeper(configuration)
        self._bundle_due = 0.0
        self._bundle_delay = _FIRST_RETRY_SECONDS
        self._certificate_error = ""
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        health = build_health_application(self._metrics, self.find_obstacle)
        runners = [await _listen(health, self._settings.health_listen)]
        try:
            while not self._certificates.loaded and not self._stop.is_set():
                await self.refresh()
                await self._sleep(0 if self._certificates.loaded else _FIRST_RETRY_SECONDS)
            application = self._admission.build_application()
            runners.append(await _listen(application, self._settings.listen, self._certificates))
            log_event("serving", port=self._settings.listen.port)
            while not self._stop.is_set():
                await self.refresh()
                await self._sleep(min(CERTIFICATE_SECONDS, max(0.0, self._bundle_due - time.monotonic())))
            log_event("draining")
            await asyncio.sleep(self._drain_seconds)
        finally:
            for runner in reversed(runners):
                await runner.cleanup()

    def find_obstacle(self) -> str:
        """Return why reviews shouldn't be sent here, or ""."""
        loaded = self._certificates.loaded
        if self._stop.is_set():
            return "stopping"
        if not loaded:
            return "no serving certificate yet"
        if loaded.expires < time.time():
            return "the serving certificate has expired"
        return "" if self._bundle.is_done(loaded.ca_pem) else "caBundle isn't set yet"

    async def refresh(self) -> None:
        """Reload the certificate if it has changed; set the caBundle if it is due."""
        self._reload_certificate()
        loaded = self._certificates.loaded
        if loaded and time.monotonic() >= self._bundle_due:
            await self._sync_bundle(loaded.ca_pem)

    def _reload_certificate(self) -> None:
        try:
            changed = self._certificates.reload()
        except CertificateError as error:
            if str(error) != self._certificate_error:
                log_event("certificate_refused", level=logging.WARNING, reason=str(error))
            self._certificate_error = str(error)
            return
        self._certificate_error = ""
        if changed and self._certificates.loaded:
            expires = self._certificates.loaded.expires
            self._metrics.certificate_expiry.set(expires)
            log_event("certificate_loaded", expires=int(expires))
            self._bundle_due = 0.0

    async def _sync_bundle(self, ca_pem: str) -> None:
        try:
            if await asyncio.to_thread(self._bundle.sync, ca_pem):
                log_event("ca_bundle_set")
            self._bundle_delay = _FIRST_RETRY_SECONDS
            self._bundle_due = time.monotonic() + BUNDLE_SECONDS
        except (ApiError, HTTPError, OSError, LookupError) as error:
            status = getattr(error, "status", None)
            log_event("ca_bundle_failed", level=logging.WARNING, error=type(error).__name__, status=status)
            self._bundle_due = time.monotonic() + self._bundle_delay
            self._bundle_delay = min(BUNDLE_SECONDS, self._bundle_delay * 2)

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


async def _listen(
    application: web.Application, address: Address, certificates: CertificateStore | None = None
) -> web.AppRunner:
    runner = web.AppRunner(
        application, access_log=None, handle_signals=False, shutdown_timeout=_FINISH_SECONDS
    )
    await runner.setup()
    context = certificates.context if certificates else None
    await web.TCPSite(runner, address.host, address.port, ssl_context=context).start()
    return runner

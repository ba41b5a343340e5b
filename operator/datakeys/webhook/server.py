"""Two listeners, and a loop that keeps certificate and caBundle fresh. Zone: no secrets."""

import asyncio
import contextlib
import signal
import ssl
import time
from typing import Final

from aiohttp import web

from datakeys.contract.environment import Address
from datakeys.webhook.admission import AdmissionHandler, RequestLookup
from datakeys.webhook.ca_bundle import CaBundleKeeper, ConfigurationApi
from datakeys.webhook.certificate_care import CertificateCare
from datakeys.webhook.certificates import CertificateStore
from datakeys.webhook.connections import ADMISSION_LIMITS, HEALTH_LIMITS, Limits
from datakeys.webhook.health import build_health_application
from datakeys.webhook.listener import Listener
from datakeys.webhook.logs import log_event
from datakeys.webhook.metrics import Metrics
from datakeys.webhook.settings import Settings

#: After SIGTERM the API server may send reviews until every node knows that this pod is going.
DRAIN_SECONDS: Final = 5.0


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
        bundle = CaBundleKeeper(configuration, managed=settings.manages_ca_bundle, clock=time.monotonic)
        self._care = CertificateCare(self._certificates, bundle, self._metrics)
        self._stop = asyncio.Event()
        self._listening = False

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        health = build_health_application(self._metrics, self.find_obstacle)
        listeners = [await self._listen(health, HEALTH_LIMITS, self._settings.health_listen)]
        try:
            while not self._care.is_loaded and not self._stop.is_set():
                await self._care.refresh()
                await self._sleep(0 if self._care.is_loaded else self._care.find_pause())
            application = self._admission.build_application()
            listeners.append(
                await self._listen(
                    application, ADMISSION_LIMITS, self._settings.listen, self._certificates.context
                )
            )
            self._listening = True
            log_event("serving", port=self._settings.listen.port)
            while not self._stop.is_set():
                await self._care.refresh()
                await self._sleep(self._care.find_pause())
            log_event("draining")
            await asyncio.sleep(self._drain_seconds)
        finally:
            for listener in reversed(listeners):
                await listener.close()

    def find_obstacle(self) -> str:
        """Return why reviews shouldn't be sent here, or ""."""
        if self._stop.is_set():
            return "stopping"
        return self._care.find_obstacle() or ("" if self._listening else "not listening yet")

    async def _listen(
        self,
        application: web.Application,
        limits: Limits,
        address: Address,
        context: ssl.SSLContext | None = None,
    ) -> Listener:
        listener = Listener(application, limits, self._metrics.ended_connections.inc, context)
        await listener.open(address.host, address.port)
        return listener

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

"""Put the service together and run it until it is told to stop.

Zone: holds every part; decides nothing. Starts the health port first, so that a start that waits for the
cluster is visible as "alive, not ready".
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.contract.identity import AUDIENCE
from datakeys.keyservice.audit.audit_log import AuditLog
from datakeys.keyservice.authn.access_reviews import ClusterAuthorizer
from datakeys.keyservice.authn.authenticator import Authenticator
from datakeys.keyservice.authn.claims import ControllerIdentity
from datakeys.keyservice.authn.cluster import KubernetesCluster
from datakeys.keyservice.authn.signatures import SignatureVerifier
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.cluster_api import ClusterApi
from datakeys.keyservice.operations.call import Service
from datakeys.keyservice.operations.chores import build_chores
from datakeys.keyservice.operations.keyring import Keyring
from datakeys.keyservice.pki.certificates import Certificates
from datakeys.keyservice.pki.tls import RenewalTask, build_server_context, find_pause
from datakeys.keyservice.server.callers import BearerCallers
from datakeys.keyservice.server.dispatch import Dispatcher
from datakeys.keyservice.server.health import Health
from datakeys.keyservice.server.http import HttpLimits, HttpServer
from datakeys.keyservice.server.metrics import RequestMetrics
from datakeys.keyservice.server.quotas import build_quotas
from datakeys.keyservice.settings import Settings
from datakeys.keyservice.store.key_changes import KeyChanges
from datakeys.keyservice.store.kubernetes_store import KubernetesStore
from datakeys.keyservice.store.objects_api import CONFIG_MAPS, ObjectsApi
from datakeys.keyservice.store.root_key_provider import EmbeddedRootKeyProvider, check_root_key
from datakeys.keyservice.store.schedule import ScheduledTask
from datakeys.keyservice.store.watcher import Watcher

_LOG: Final = logging.getLogger("datakeys.keyservice")
_WORKERS: Final = 16
_MAX_DELAY_SECONDS: Final = 5.0
#: A key policy of 131,072 characters is the largest member.
_MAX_BODY_BYTES: Final = 192 * 1024
#: For probes and whoever collects metrics: few, and without bodies.
_HEALTH_LIMITS: Final = HttpLimits(max_connections=128, max_body_bytes=1024, max_held_bytes=64 * 1024)

T = TypeVar("T")


class App:
    """One key service process."""

    def __init__(self, settings: Settings, api: ClusterApi) -> None:
        self._settings = settings
        self._api = api
        self._secrets = ObjectsApi(api, settings.system_namespace)
        # Apart, so that slow token reviews can't hold up the writes, nor the other way round.
        self._executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="store")
        self._review_executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="review")
        self._metrics = RequestMetrics()
        self._health = Health(self._metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._failed = False
        self._watcher: Watcher | None = None
        self._changes = KeyChanges(os.urandom(8).hex())

    async def run(self) -> bool:
        """Serve until SIGTERM or SIGINT; False if a background task failed.

        Raises:
            RootKeyError: The root key is missing or opens none of the records.
        """
        stopping = self._stopping
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        health = HttpServer(self._health.handle, _HEALTH_LIMITS)
        await health.start(self._settings.health_listen.host, self._settings.health_listen.port)
        try:
            server = await self._start_unless_stopped()
            if server is not None:
                self._health.ready = True
                _LOG.info("ready", extra={"port": self._settings.listen.port})
                await stopping.wait()
                await self._stop(server)
        finally:
            if self._watcher is not None:
                self._watcher.stop()
            await health.drain(0)
            for executor in (self._executor, self._review_executor):
                executor.shutdown(wait=False, cancel_futures=True)
        _LOG.info("stopped")
        return not self._failed

    async def _start_unless_stopped(self) -> HttpServer | None:
        """Return the running server, or None if the process is told to stop before."""
        starting = asyncio.create_task(self._start())
        waiting = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if starting.done():
            return starting.result()
        starting.cancel()
        return None

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Stop the process if a background task ends: without it the service isn't right any more."""
        if not task.cancelled():
            failure = task.exception()
            _LOG.critical("background task failed", extra={"error_type": type(failure).__name__})
            self._failed = True
            self._stopping.set()

    async def _start(self) -> HttpServer:
        settings = self._settings
        provider = EmbeddedRootKeyProvider(self._secrets, os.urandom, settings.cluster_name)
        root_key = await self._retry("root key", provider.load)
        store = KubernetesStore(self._secrets, root_key)
        keyring = Keyring(root_key)
        service = Service(
            Realm(settings.cluster_name),
            store,
            root_key,
            keyring,
            time.time,
            os.urandom,
            self._changes,
            ClusterAuthorizer(self._api, time.monotonic),
        )
        chores = build_chores(service)
        schedule = ScheduledTask(store, self._executor, time.time, chores, self._api.fetch_time)
        store.cache.index.listeners += [keyring.forget, schedule.wake]
        self._changes.follow(store.cache.index)
        self._watcher = watcher = Watcher(self._secrets, store.cache, time.monotonic)
        watcher.start()
        await asyncio.get_running_loop().run_in_executor(self._executor, watcher.synced.wait)
        check_root_key(store.cache.record_count, store.cache.broken_count, store.cache.newer_count)
        authenticator = await self._build_authenticator()
        audit = AuditLog(settings.cluster_name)
        dispatcher = Dispatcher(
            service,
            BearerCallers(authenticator),
            audit,
            self._metrics,
            self._executor,
            build_quotas(settings.rate_quota_factor, time.monotonic),
        )
        config_maps = ObjectsApi(self._api, settings.system_namespace, CONFIG_MAPS)
        certificates = Certificates(
            self._secrets,
            config_maps,
            time.time,
            time.monotonic,
            settings.lifetimes,
            with_webhook=settings.webhook_certificate,
        )
        served = await self._retry("certificates", certificates.ensure)
        context = build_server_context(served.leaf)
        renewal = RenewalTask(certificates, context, served, self._executor, find_pause(settings.lifetimes))
        self._publish_gauges(watcher, store, renewal)
        self._metrics.add_counter(
            "scheduled_changes", "What happened to keys by itself.", "kind", lambda: schedule.counts
        )
        self._tasks = [asyncio.create_task(schedule.run()), asyncio.create_task(renewal.run())]
        for task in self._tasks:
            task.add_done_callback(self._note_end)
        server = HttpServer(
            dispatcher.handle, HttpLimits(max_body_bytes=_MAX_BODY_BYTES), ssl_context=context
        )
        await server.start(settings.listen.host, settings.listen.port)
        return server

    async def _build_authenticator(self) -> Authenticator:
        settings = self._settings
        cluster = KubernetesCluster(self._api)
        verifier = SignatureVerifier(cluster, AUDIENCE, time.monotonic)
        await self._retry("signing keys", verifier.load)
        return Authenticator(
            cluster,
            verifier,
            ControllerIdentity(settings.system_namespace, settings.controller_service_account),
            cache_seconds=settings.token_cache_seconds,
            executor=self._review_executor,
            monotonic=time.monotonic,
            wall_clock=time.time,
            check_addresses=settings.check_addresses,
        )

    async def _retry(self, what: str, load: Callable[[], T]) -> T:
        """Run something that blocks until the cluster can be reached."""
        delay = 0.25
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._executor, load)
            except DependencyTimeoutError as error:
                _LOG.warning("waiting for the cluster", extra={"what": what, "cause": error.message})
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MAX_DELAY_SECONDS)

    def _publish_gauges(self, watcher: Watcher, store: KubernetesStore, renewal: RenewalTask) -> None:
        add = self._metrics.add_gauge
        add("cache_age_seconds", "Seconds since the cluster was last heard from.", watcher.age_seconds)
        add("records", "Authentic records.", lambda: store.cache.record_count)
        add(
            "broken_records",
            "Records that fail authentication or have a later format version.",
            lambda: store.cache.broken_count,
        )
        add(
            "certificate_expiry_timestamp_seconds",
            "End of the served certificate's validity.",
            lambda: renewal.expires_at,
        )
        add(
            "ca_expiry_timestamp_seconds",
            "End of the validity of the CA that has signed the served certificate.",
            lambda: renewal.ca_expires_at,
        )

    async def _stop(self, server: HttpServer) -> None:
        _LOG.info("stopping")
        self._health.ready = False
        await asyncio.sleep(self._settings.drain_delay_seconds)
        self._changes.close()
        await server.drain(self._settings.drain_grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

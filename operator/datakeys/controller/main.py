"""The process: settings, connections, leadership. Zone: ciphertext only."""

import asyncio
import gc
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Final

import uvloop

from datakeys.contract.identity import GROUP, TRUST_BUNDLE_CONFIG_MAP, VERSION
from datakeys.controller import metrics
from datakeys.controller.decisions.backoff import backoff_seconds
from datakeys.controller.handlers.check_injection import InjectionCheck
from datakeys.controller.handlers.find_unstamped import UnstampedSearch
from datakeys.controller.handlers.handle_data_key_request import RequestReconciler
from datakeys.controller.handlers.handle_kms_alias import KmsAliasHandler
from datakeys.controller.handlers.handle_kms_grant import KmsGrantHandler
from datakeys.controller.handlers.handle_kms_key import KmsKeyHandler
from datakeys.controller.handlers.handle_workload import WorkloadReconciler
from datakeys.controller.handlers.observe_kms_key import KmsKeyObserver
from datakeys.controller.handlers.re_encrypt_data_keys import DataKeyReEncrypter
from datakeys.controller.handlers.re_encrypt_requests import ReEncrypter, ReEncryptionWakeups
from datakeys.controller.handlers.request_failures import FailureReporter
from datakeys.controller.handlers.request_status import StatusWriter
from datakeys.controller.health import Health, start_health_server
from datakeys.controller.json_logs import configure_logging
from datakeys.controller.key_memory import KeyMemory
from datakeys.controller.key_watch import KeyWatch
from datakeys.controller.keyservice_client import KeyServiceClient
from datakeys.controller.kopf_operator import PLURALS, Handlers, run_operator
from datakeys.controller.kube.api import CONFIG_MAPS, REQUESTS, KubeApi
from datakeys.controller.kube.connection import ClusterConnection, load_connection
from datakeys.controller.kube.errors import KubeError
from datakeys.controller.kube.events import EventRecorder
from datakeys.controller.kube.list_watch import ListWatch
from datakeys.controller.kube.namespace_access import NamespaceAccess
from datakeys.controller.kube.pod_watch import PodWatch
from datakeys.controller.kube.secret_memory import SecretMemory
from datakeys.controller.kube.trust_bundle_copies import TrustBundleCopies
from datakeys.controller.leadership import lead
from datakeys.controller.re_encryption_turns import Turns
from datakeys.controller.request_memory import RequestMemory
from datakeys.controller.request_watch import RequestWatch
from datakeys.controller.settings import Settings
from datakeys.controller.wakeups import Wakeups
from datakeys.controller.work_queue import WorkQueue
from datakeys.controller.workload_memory import WorkloadMemory
from datakeys.controller.workloads import Workloads

_LOG = logging.getLogger(__name__)
_MAX_PAUSE_SECONDS: Final = 5.0
#: KmsKeys that are looked at at the same time.
_KEY_WORKERS: Final = 4
#: KmsKeys whose data keys are re-encrypted at the same time.
_CAMPAIGN_WORKERS: Final = 4
#: Annotated workloads whose requests are made at the same time.
_WORKLOAD_WORKERS: Final = 8
#: Objects made and not yet freed before the garbage collector looks at the young ones (Python's own: 700).
_GARBAGE_THRESHOLD: Final = 20_000


def main() -> None:
    """Run the controller until a signal comes."""
    try:
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        sys.exit(str(error))
    configure_logging(settings.log_level)
    # All modules are loaded and stay, so the garbage collector needn't look at them again and again. It has
    # little to do: a request leaves no cycles behind.
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop, health = asyncio.Event(), Health()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connection = load_connection()
    async with AsyncExitStack() as stack:
        server = await start_health_server(settings.health_listen, health)
        stack.push_async_callback(server.cleanup)
        api = await stack.enter_async_context(KubeApi(connection))
        keyservice = await stack.enter_async_context(
            KeyServiceClient(
                settings.keyservice_url,
                ca_file=settings.keyservice_ca_file,
                token_file=settings.token_file,
            )
        )
        if not await _wait_for_kinds(api, stop):
            return
        _LOG.info("ready", extra={"identity": settings.identity})
        health.ready.set()

        async def act() -> None:
            await _act(settings, connection, api, keyservice, stop)

        if settings.leader_election:
            await lead(api, settings, act, stop)
        else:
            await act()


async def _wait_for_kinds(api: KubeApi, stop: asyncio.Event) -> bool:
    """Return True once all kinds are served, False if the process is to end."""
    attempt = 0
    while not stop.is_set():
        attempt += 1
        try:
            missing = {REQUESTS.plural, *PLURALS} - await api.served_plurals(GROUP, VERSION)
            if not missing:
                return True
            _LOG.warning("kinds not served yet", extra={"kinds": sorted(missing)})
        except KubeError as error:
            _LOG.warning("no answer from the API server", extra={"error": str(error)})
        try:
            async with asyncio.timeout(min(_MAX_PAUSE_SECONDS, backoff_seconds(attempt, 1.0))):
                await stop.wait()
        except TimeoutError:
            continue
    return False


async def _act(
    settings: Settings,
    connection: ClusterConnection,
    api: KubeApi,
    keyservice: KeyServiceClient,
    stop: asyncio.Event,
) -> None:
    """Do the leader's work: the operator, the workers, the watches."""
    requests, keys = RequestMemory(), KeyMemory()
    recorder = EventRecorder(api, instance=settings.identity, events_per_second=settings.events_per_second)
    access = NamespaceAccess(
        api,
        service_account=settings.controller_service_account,
        system_namespace=settings.system_namespace,
    )
    secrets = SecretMemory(api)
    statuses, turns, all_seen = StatusWriter(api, requests, recorder), Turns(), asyncio.Event()
    reconciler = RequestReconciler(
        requests=requests,
        keys=keys,
        secrets=secrets,
        access=access,
        keyservice=keyservice,
        statuses=statuses,
        failures=FailureReporter(requests, statuses),
        re_encrypter=DataKeyReEncrypter(keyservice, statuses),
        turns=turns,
    )
    queue = WorkQueue(reconciler.reconcile, workers=settings.concurrency)
    wakeups = Wakeups(requests, queue, secrets, access)
    secrets.subscribe(wakeups.on_secret)
    observer = KmsKeyObserver(api, keyservice, recorder, keys, access.ensure)
    looks = WorkQueue(observer.look, workers=_KEY_WORKERS, length=metrics.KEY_QUEUE_LENGTH)
    campaigns = ReEncrypter(api, recorder, requests, keys, turns, all_seen.wait, queue.add)
    slices = WorkQueue(campaigns.look, workers=_CAMPAIGN_WORKERS, length=metrics.CAMPAIGN_QUEUE_LENGTH)
    re_encryptions = ReEncryptionWakeups(campaigns, slices.add)
    key_watch = KeyWatch(keyservice, observer, looks, wakeups, re_encryptions, keys, settings.cluster_name)
    workloads = _build_workloads(api, recorder)
    request_watch = RequestWatch(requests, keys, wakeups, re_encryptions, workloads, all_seen)
    handlers = Handlers(
        keys=keys,
        wakeups=wakeups,
        re_encryptions=re_encryptions,
        kms_key=KmsKeyHandler(keyservice, recorder, key_watch.look_soon, api),
        kms_alias=KmsAliasHandler(keyservice, recorder, keys, settings.cluster_name),
        kms_grant=KmsGrantHandler(keyservice, recorder, keys, settings.cluster_name),
        end_watches=secrets.close,
    )
    trust_bundle = ListWatch(
        api,
        CONFIG_MAPS,
        settings.system_namespace,
        access,
        {"fieldSelector": f"metadata.name={TRUST_BUNDLE_CONFIG_MAP}"},
    )
    pods = PodWatch(api)
    pods.subscribe(workloads)
    injection = InjectionCheck.from_settings(settings, api, recorder)
    pods.subscribe(injection)
    unstamped = UnstampedSearch(api, recorder, settings.excluded_namespaces)
    background = [
        asyncio.create_task(work, name=name)
        for name, work in (
            ("workers", queue.run()),
            ("requests", request_watch.run(api)),
            ("key workers", looks.run()),
            ("re-encryption", slices.run()),
            ("key watch", key_watch.run()),
            ("events", recorder.run()),
            ("trust bundle", trust_bundle.run()),
            ("copies of the trust bundle", TrustBundleCopies(access).run(api)),
            ("pods", pods.run()),
            ("workloads", workloads.run(api)),
            ("injection check", injection.run()),
            ("unstamped workloads", unstamped.run()),
        )
    ]
    operator = asyncio.create_task(run_operator(connection, handlers, stop), name="kopf")
    try:
        done, _ = await asyncio.wait({operator, *background}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # raises: without any of them the operator isn't right any more
    finally:
        for task in (operator, *background):
            task.cancel()
        await asyncio.gather(operator, *background, return_exceptions=True)


def _build_workloads(api: KubeApi, recorder: EventRecorder) -> Workloads:
    memory = WorkloadMemory()
    reconciler = WorkloadReconciler(api, memory, recorder)
    queue = WorkQueue(reconciler.reconcile, workers=_WORKLOAD_WORKERS, length=metrics.WORKLOAD_QUEUE_LENGTH)
    return Workloads(memory, queue, recorder)

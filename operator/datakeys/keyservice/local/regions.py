"""One KMS per Region, opened when the first request for it comes.

Zone: holds every part, decides nothing but which Region a request goes to. An AWS Region is an installation
of its own; so is a Region here: its own keys, ARNs and database file.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from os import urandom
from typing import Final

from datakeys.contract.errors import KmsError
from datakeys.keyservice.audit.audit_log import AuditLog
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from datakeys.keyservice.authz.rbac import FixedAuthorizer
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.local.arguments import DEFAULT_REGION, Arguments, is_region
from datakeys.keyservice.local.callers import SignatureCallers
from datakeys.keyservice.local.data_directory import DataDirectory
from datakeys.keyservice.local.sigv4 import parse_signature
from datakeys.keyservice.local.sqlite_store import SqliteStore
from datakeys.keyservice.material.root_key import ROOT_KEY_BYTES, RootKey
from datakeys.keyservice.operations.call import Service
from datakeys.keyservice.operations.chores import build_chores
from datakeys.keyservice.operations.keyring import Keyring
from datakeys.keyservice.server.dispatch import Dispatcher
from datakeys.keyservice.server.http import HttpRequest, HttpResponse
from datakeys.keyservice.server.metrics import RequestMetrics
from datakeys.keyservice.store.memory import MemoryStore
from datakeys.keyservice.store.schedule import ScheduledTask

#: There are some forty Regions; the bound keeps callers from opening databases without end.
MAX_REGIONS: Final = 64

_PARTITIONS: Final = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"))


@dataclass(frozen=True, slots=True)
class Region:
    """The parts of one Region that are running."""

    callers: SignatureCallers
    dispatcher: Dispatcher
    store: MemoryStore
    schedule: "asyncio.Task[None]"


class Regions:
    """The handler of requests to KMS. Lives on the event loop's thread."""

    def __init__(
        self,
        arguments: Arguments,
        directory: DataDirectory | None,
        audit_fd: int,
        metrics: RequestMetrics,
        executor: Executor,
        on_failure: Callable[["asyncio.Task[None]"], None],
    ) -> None:
        """Open the Region of the arguments, and those that the data directory holds.

        Args:
            arguments: What the user asked for.
            directory: None keeps everything in memory.
            audit_fd: Where the audit records go.
            metrics: Counts requests of all Regions.
            executor: Runs what blocks.
            on_failure: Called when a background task ends, with the task.

        Raises:
            DataDirectoryError: A database can't be opened.
        """
        self._arguments = arguments
        self._directory = directory
        self._audit_fd = audit_fd
        self._metrics = metrics
        self._executor = executor
        self._on_failure = on_failure
        self._root_key = (
            RootKey(urandom(ROOT_KEY_BYTES)) if directory is None else directory.load_root_key(urandom)
        )
        self._regions: dict[str, Region] = {}
        self._main = self._open(arguments.region or DEFAULT_REGION)
        if arguments.region is None and directory is not None:
            for name in directory.list_regions():
                if is_region(name):
                    self._find(name)

    def handle(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer a request in the Region of its credential scope; errors come from the main Region."""
        region = self._main
        if self._arguments.region is None and b"authorization" in request.headers:
            try:
                name = parse_signature(request.headers).region
                region = self._regions.get(name) or self._open_for(name, request)
            except KmsError:
                region = self._main
        return region.dispatcher.handle(request)

    def close(self) -> None:
        """Stop the background tasks and close the databases."""
        for region in self._regions.values():
            region.schedule.cancel()
            if isinstance(region.store, SqliteStore):
                region.store.close()

    def _open_for(self, name: str, request: HttpRequest) -> Region:
        """Open a Region, but only for a caller who may use it."""
        if not is_region(name) or len(self._regions) >= MAX_REGIONS:
            return self._main
        self._build_callers(name).identify(request)
        return self._open(name)

    def _find(self, name: str) -> Region:
        return self._regions.get(name) or self._open(name)

    def _open(self, name: str) -> Region:
        realm = Realm(name, _partition(name))
        store = MemoryStore() if self._directory is None else self._open_store(self._directory, name)
        keyring = Keyring(self._root_key)
        authorizer = FixedAuthorizer(allowed=True)
        service = Service(realm, store, self._root_key, keyring, time.time, urandom, authorizer=authorizer)
        schedule = ScheduledTask(store, self._executor, time.time, build_chores(service))
        store.index.listeners += [keyring.forget, schedule.wake]
        callers = self._build_callers(name)
        audit = AuditLog(name, fd=self._audit_fd)
        dispatcher = Dispatcher(service, callers, audit, self._metrics, self._executor)
        task = asyncio.create_task(schedule.run())
        task.add_done_callback(self._on_failure)
        self._regions[name] = region = Region(callers, dispatcher, store, task)
        return region

    def _open_store(self, directory: DataDirectory, name: str) -> MemoryStore:
        return SqliteStore(directory.database(name), self._root_key)

    def _build_callers(self, name: str) -> SignatureCallers:
        account = self._arguments.account
        root = Principal(
            PrincipalKind.ACCOUNT_ROOT, account, "", arn=Realm(name, _partition(name)).root_arn(account)
        )
        return SignatureCallers(
            root,
            name,
            self._arguments.credentials,
            time.time,
            unsigned_allowed=self._arguments.unsigned_allowed,
        )


def _partition(region: str) -> str:
    return next((partition for prefix, partition in _PARTITIONS if region.startswith(prefix)), "aws")

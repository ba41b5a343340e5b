"""The controller's way into a namespace: a RoleBinding for itself and a copy of the trust bundle.

Zone: no secrets. The reason for binding itself is in docs/architecture.md. In a namespace that has both,
nothing is written.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from datakeys.contract.identity import TRUST_BUNDLE_CONFIG_MAP
from datakeys.controller.decisions.namespace_objects import (
    FOREIGN_ROLE_BINDING,
    ROLE_BINDING,
    binds_alike,
    build_role_binding,
    build_trust_bundle,
    update_trust_bundle,
)
from datakeys.controller.kube.api import CONFIG_MAPS, ROLE_BINDINGS, Json, KubeApi
from datakeys.controller.kube.errors import (
    ConflictError,
    ExistsError,
    ForbiddenError,
    KubeError,
    MissingError,
)

_LOG = logging.getLogger(__name__)
#: A new RoleBinding takes effect once the API server's authorizer has seen it: pauses between attempts.
_RBAC_PAUSES_SECONDS: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_PARALLEL_COPIES: Final = 16
#: How long a refusal counts for all requests of a namespace.
_REFUSAL_SECONDS: Final = 1.0


class NamespaceAccess:
    """Makes each namespace accessible once and keeps its trust bundle up to date."""

    def __init__(self, api: KubeApi, *, service_account: str, system_namespace: str) -> None:
        self._api = api
        self._service_account = service_account
        self._system_namespace = system_namespace
        self._entries: dict[str, asyncio.Task[KubeError | None]] = {}
        self._bundle: dict[str, str] | None = None
        self._copies = asyncio.Semaphore(_PARALLEL_COPIES)
        self._background: set[asyncio.Task[None]] = set()

    async def ensure(self, namespace: str) -> None:
        """Return once the namespace is accessible; later calls cost nothing.

        Raises:
            KubeError: It can't be made accessible for now; a call a second later tries again.
        """
        entry = self._entries.get(namespace)
        if entry is None:
            entry = asyncio.create_task(self._try_to_enter(namespace), name=f"enter {namespace}")
            self._entries[namespace] = entry
        error = await asyncio.shield(entry)
        if error is not None:
            raise error

    def doubt(self, namespace: str) -> None:
        """Enter a namespace again at the next call: a right that was there is missing."""
        entry = self._entries.get(namespace)
        if entry is not None and entry.done() and entry.result() is None:
            del self._entries[namespace]

    def forget(self, namespace: str) -> None:
        """Forget a namespace: its last request is gone."""
        self._entries.pop(namespace, None)

    def entered(self) -> AbstractSet[str]:
        """Return the namespaces that have been entered, or are just being."""
        return self._entries.keys()

    def is_copy(self, config_map: Mapping[str, Any]) -> bool:
        """Return whether a copy of the trust bundle is as it should be."""
        return self._bundle is None or update_trust_bundle(config_map, self._bundle) is None

    async def restore_bundle(self, namespace: str) -> None:
        """Make the copy of the trust bundle right, if it isn't.

        Raises:
            KubeError: It can't be made for now.
        """
        async with self._copies:
            await self._copy_bundle(namespace)

    # The observer of the trust bundle's source in the system namespace.

    def on_list(self, items: Sequence[Json]) -> None:
        """Take the source as it is at the start."""
        for item in items:
            self._take_bundle(item.get("data") or {})

    def on_change(self, kind: str, item: Json) -> None:
        """Take a change of the source; a deleted source leaves the copies alone."""
        if kind != "DELETED":
            self._take_bundle(item.get("data") or {})

    def _take_bundle(self, data: Mapping[str, str]) -> None:
        if self._bundle == data:
            return
        self._bundle = dict(data)
        for namespace in list(self._entries):
            task = asyncio.create_task(self._renew(namespace), name=f"copy trust bundle to {namespace}")
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _try_to_enter(self, namespace: str) -> KubeError | None:
        """Return the error instead of raising it: many callers share one attempt, or none is left."""
        try:
            await self._enter(namespace)
        except KubeError as error:
            # For a while the answer stays: a thousand requests must not ask one by one.
            loop = asyncio.get_running_loop()
            loop.call_later(_REFUSAL_SECONDS, self._forget_entry, namespace, asyncio.current_task())
            return error
        return None

    def _forget_entry(self, namespace: str, entry: asyncio.Task[Any] | None) -> None:
        if self._entries.get(namespace) is entry:
            del self._entries[namespace]

    async def _enter(self, namespace: str) -> None:
        await self._bind(namespace)
        for pause in _RBAC_PAUSES_SECONDS:
            try:
                await self._copy_bundle(namespace)
            except ForbiddenError as error:
                if error.is_terminating:
                    raise
                await asyncio.sleep(pause)
            else:
                return
        await self._copy_bundle(namespace)

    async def _bind(self, namespace: str) -> None:
        wanted = build_role_binding(
            namespace, service_account=self._service_account, system_namespace=self._system_namespace
        )
        try:
            found = await self._api.get(ROLE_BINDINGS, namespace, ROLE_BINDING)
        except MissingError:
            try:
                await self._api.create(ROLE_BINDINGS, namespace, wanted)
            except ExistsError:
                return
        else:
            if not binds_alike(found, wanted):
                raise ForbiddenError(403, "Forbidden", FOREIGN_ROLE_BINDING)

    async def _renew(self, namespace: str) -> None:
        try:
            await self.restore_bundle(namespace)
        except KubeError as error:
            # The next request of this namespace tries again.
            self.forget(namespace)
            _LOG.warning("trust bundle not copied", extra={"namespace": namespace, "error": str(error)})

    async def _copy_bundle(self, namespace: str) -> None:
        if self._bundle is None:
            return
        try:
            current = await self._api.get(CONFIG_MAPS, namespace, TRUST_BUNDLE_CONFIG_MAP)
        except MissingError:
            await self._create_copy(namespace, self._bundle)
            return
        updated = update_trust_bundle(current, self._bundle)
        if updated is None:
            return
        try:
            await self._api.replace(CONFIG_MAPS, namespace, TRUST_BUNDLE_CONFIG_MAP, updated)
        except ConflictError:
            await self._copy_bundle(namespace)

    async def _create_copy(self, namespace: str, bundle: Mapping[str, str]) -> None:
        try:
            await self._api.create(CONFIG_MAPS, namespace, build_trust_bundle(namespace, bundle))
        except ExistsError:
            await self._copy_bundle(namespace)

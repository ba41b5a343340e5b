"""The kopf operator: which handler is called for which kind. Zone: ciphertext only.

DataKeyRequests aren't kopf's (``request_watch``): no finalizer and no annotation is ever written to them.
KmsKeys and KmsAliases are indexed, which makes kopf list them all before it calls any handler.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import kopf

from datakeys.contract.identity import FINALIZER, GROUP, MANAGED_BY, VERSION
from datakeys.controller.decisions.alias_claims import AliasClaim
from datakeys.controller.decisions.keys import parse_key_facts
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.decisions.triggers import alias_name_of
from datakeys.controller.handlers.handle_kms_alias import KmsAliasHandler
from datakeys.controller.handlers.handle_kms_grant import KmsGrantHandler
from datakeys.controller.handlers.handle_kms_key import KmsKeyHandler
from datakeys.controller.handlers.re_encrypt_requests import ReEncryptionWakeups
from datakeys.controller.key_memory import KeyMemory
from datakeys.controller.kube.connection import ClusterConnection
from datakeys.controller.wakeups import Wakeups

KEYS: Final = "kmskeys"
ALIASES: Final = "kmsaliases"
GRANTS: Final = "kmsgrants"
PLURALS: Final = frozenset({KEYS, ALIASES, GRANTS})

#: Where kopf keeps its progress: annotations, as the CRDs' schemas have no place for it.
_ANNOTATION_PREFIX: Final = GROUP
_DELETED: Final = "DELETED"


@dataclass(frozen=True)
class Handlers:
    """What the kopf handlers call."""

    keys: KeyMemory
    wakeups: Wakeups
    re_encryptions: ReEncryptionWakeups
    kms_key: KmsKeyHandler
    kms_alias: KmsAliasHandler
    kms_grant: KmsGrantHandler
    end_watches: Callable[[], None]


async def run_operator(connection: ClusterConnection, handlers: Handlers, stop: asyncio.Event) -> None:
    """Run kopf until ``stop`` is set or a signal comes."""
    await kopf.operator(
        registry=build_registry(connection, handlers),
        settings=build_settings(),
        standalone=True,
        clusterwide=True,
        # Kopf would look up the user's name, which a container's UID doesn't have. It exports no type for it.
        identity=cast("Any", MANAGED_BY),
        stop_flag=stop,
    )


def build_settings() -> kopf.OperatorSettings:
    """Return kopf's settings."""
    settings = kopf.OperatorSettings()
    # No watch on CustomResourceDefinitions and Namespaces: the controller has no right to them.
    settings.scanning.disabled = True
    # A log line must never become an Event by accident; Events are posted by kube.events.
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_ANNOTATION_PREFIX)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(
        prefix=_ANNOTATION_PREFIX, key="last-handled-configuration"
    )
    settings.posting.reporting_component = MANAGED_BY
    return settings


def build_registry(connection: ClusterConnection, handlers: Handlers) -> kopf.OperatorRegistry:
    """Return a registry of its own, so that importing a module registers nothing."""
    registry = kopf.OperatorRegistry()
    _register_process(registry, connection, handlers)
    _register_keys(registry, handlers)
    _register_aliases(registry, handlers)
    _register_grants(registry, handlers)
    return registry


def _register_process(
    registry: kopf.OperatorRegistry, connection: ClusterConnection, handlers: Handlers
) -> None:
    @kopf.on.login(id="login", registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:  # noqa: ANN401
        return connection.login_info()

    @kopf.on.cleanup(id="end-watches", registry=registry)
    def end_watches(**_: Any) -> None:  # noqa: ANN401
        handlers.end_watches()


def _register_keys(registry: kopf.OperatorRegistry, handlers: Handlers) -> None:
    @kopf.index(GROUP, VERSION, KEYS, id="observe-key", registry=registry)
    async def observe_key(body: kopf.Body, **_: Any) -> None:  # noqa: ANN401
        facts = parse_key_facts(body)
        old = await handlers.keys.observe(facts)
        handlers.wakeups.on_key(old, facts)
        handlers.re_encryptions.on_key(old, facts)

    @kopf.on.event(GROUP, VERSION, KEYS, id="forget-key", registry=registry)
    async def forget_key(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401
        metadata = event["object"]["metadata"]
        if event["type"] == _DELETED:
            key = ObjectKey(metadata["namespace"], metadata["name"])
            handlers.keys.forget(key)
            handlers.re_encryptions.forget(key)

    @kopf.on.resume(GROUP, VERSION, KEYS, id="apply-key", registry=registry)
    @kopf.on.create(GROUP, VERSION, KEYS, id="apply-key", registry=registry)
    @kopf.on.update(GROUP, VERSION, KEYS, field="spec", id="apply-key", registry=registry)
    async def apply_key(
        body: kopf.Body,
        patch: kopf.Patch,
        retry: int,
        old: Any,  # noqa: ANN401
        **_: Any,  # noqa: ANN401
    ) -> None:
        await handlers.kms_key.apply(body, patch, retry, _former_spec(old))

    @kopf.on.delete(GROUP, VERSION, KEYS, id="delete-key", registry=registry)
    async def delete_key(body: kopf.Body, retry: int, **_: Any) -> None:  # noqa: ANN401
        await handlers.kms_key.schedule_deletion(body, retry)


def _register_aliases(registry: kopf.OperatorRegistry, handlers: Handlers) -> None:
    @kopf.on.event(GROUP, VERSION, ALIASES, id="observe-alias", registry=registry)
    async def observe_alias(event: kopf.RawEvent, body: kopf.Body, **_: Any) -> None:  # noqa: ANN401
        if event["type"] == _DELETED:
            handlers.wakeups.forget(body)
        else:
            handlers.wakeups.on_alias(body)

    @kopf.index(GROUP, VERSION, ALIASES, id="alias_claims", registry=registry)
    async def claim_alias(body: kopf.Body, **_: Any) -> dict[tuple[str, str], AliasClaim]:  # noqa: ANN401
        return {_alias_of(body): AliasClaim.of(body)}

    @kopf.on.resume(GROUP, VERSION, ALIASES, id="apply-alias", registry=registry)
    @kopf.on.create(GROUP, VERSION, ALIASES, id="apply-alias", registry=registry)
    @kopf.on.update(GROUP, VERSION, ALIASES, field="spec", id="apply-alias", registry=registry)
    async def apply_alias(body: kopf.Body, patch: kopf.Patch, retry: int, **indexes: Any) -> None:  # noqa: ANN401
        claims = indexes["alias_claims"].get(_alias_of(body), ())
        await handlers.kms_alias.apply(body, patch, retry, claims)

    @kopf.on.delete(GROUP, VERSION, ALIASES, id="delete-alias", registry=registry)
    async def delete_alias(body: kopf.Body, retry: int, **indexes: Any) -> None:  # noqa: ANN401
        claims = indexes["alias_claims"].get(_alias_of(body), ())
        await handlers.kms_alias.delete(body, retry, claims)


def _register_grants(registry: kopf.OperatorRegistry, handlers: Handlers) -> None:
    @kopf.on.event(GROUP, VERSION, GRANTS, id="observe-grant", registry=registry)
    async def observe_grant(event: kopf.RawEvent, body: kopf.Body, **_: Any) -> None:  # noqa: ANN401
        if event["type"] == _DELETED:
            handlers.wakeups.forget(body)
        else:
            handlers.wakeups.on_grant(body)

    @kopf.on.resume(GROUP, VERSION, GRANTS, id="apply-grant", registry=registry)
    @kopf.on.create(GROUP, VERSION, GRANTS, id="apply-grant", registry=registry)
    async def apply_grant(body: kopf.Body, patch: kopf.Patch, retry: int, **_: Any) -> None:  # noqa: ANN401
        await handlers.kms_grant.apply(body, patch, retry)

    @kopf.on.delete(GROUP, VERSION, GRANTS, id="revoke-grant", registry=registry)
    async def revoke_grant(body: kopf.Body, retry: int, **_: Any) -> None:  # noqa: ANN401
        await handlers.kms_grant.revoke(body, retry)


def _alias_of(body: kopf.Body) -> tuple[str, str]:
    """Return namespace and alias name of a KmsAlias."""
    return str(body["metadata"]["namespace"]), alias_name_of(body)


def _former_spec(old: Any) -> Mapping[str, Any] | None:  # noqa: ANN401 - whatever kopf remembers
    """Return the spec that was handled last: kopf gives a handler of a field the field, others the object."""
    if not isinstance(old, Mapping):
        return None
    spec = old.get("spec", old)
    return spec if isinstance(spec, Mapping) else None

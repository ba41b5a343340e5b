"""Which changes of which objects let a request be looked at again. Zone: no secrets, no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from datakeys.contract.arn import ALIAS_NAME_PATTERN, Arn, ResourceKind
from datakeys.controller.decisions.keys import KeyFacts
from datakeys.controller.decisions.request_view import ObjectKey, RequestView

_ALIAS_PREFIX = ALIAS_NAME_PATTERN.split("[", 1)[0]


def is_relevant_change(old: RequestView | None, new: RequestView, *, pending: bool) -> bool:
    """Return whether a new state of a request needs a look.

    Args:
        old: The state that was looked at last, own writes included.
        new: A newer state.
        pending: The request waits for a retry or for another object. Then a change of conditions is
            no news: two controllers that tell each other about their retries would never rest.
    """
    if new.deleting:
        return False
    if old is None or old.uid != new.uid or old.generation != new.generation:
        return True
    if (old.versions, old.damaged, old.secret_ref) != (new.versions, new.damaged, new.secret_ref):
        return True
    return not pending and old.conditions != new.conditions


def changes_outcome(old: KeyFacts | None, new: KeyFacts) -> bool:
    """Return whether a change of a KmsKey can change the outcome of requests."""
    return old is None or (old.arn, old.state) != (new.arn, new.state)


@dataclass(frozen=True, slots=True)
class KeyNames:
    """Several keys by all the names that a request can give, so that many requests are compared at once."""

    objects: frozenset[ObjectKey]
    arns: frozenset[str]
    ids: frozenset[tuple[str, str]]
    accounts: frozenset[str]

    @classmethod
    def of(cls, keys: Iterable[KeyFacts]) -> Self:
        """Return the names of keys."""
        known = tuple(keys)
        return cls(
            objects=frozenset(key.key for key in known if key.key.name),
            arns=frozenset(key.arn for key in known if key.arn),
            ids=frozenset((key.key.namespace, key.key_id) for key in known),
            accounts=frozenset(key.key.namespace for key in known),
        )


def waits_for_key(request: RequestView, keys: KeyNames) -> bool:
    """Return whether a request names one of these keys; an alias may lead to any of its account."""
    namespace = request.key.namespace
    if request.key_ref is not None:
        return ObjectKey(namespace, request.key_ref) in keys.objects
    if request.key_id in keys.arns or (namespace, request.key_id) in keys.ids:
        return True
    alias = find_alias(request)
    return alias is not None and alias[0] in keys.accounts


def find_alias(request: RequestView) -> tuple[str, str] | None:
    """Return account and alias name that a request's KeyId gives, or None."""
    key_id = request.key_id or ""
    if key_id.startswith(_ALIAS_PREFIX):
        return request.key.namespace, key_id
    try:
        arn = Arn.parse(key_id)
    except ValueError:
        return None
    return (arn.account, arn.name) if arn.kind is ResourceKind.ALIAS else None


def alias_name_of(body: Mapping[str, Any]) -> str:
    """Return the alias name of a KmsAlias."""
    return str(body["spec"].get("aliasName") or f"{_ALIAS_PREFIX}{body['metadata']['name']}")

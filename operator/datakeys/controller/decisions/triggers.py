"""Which changes of which objects let a request be looked at again. Zone: no secrets, no I/O."""

from collections.abc import Mapping
from typing import Any

from datakeys.contract.arn import ALIAS_NAME_PATTERN, Arn, ResourceKind
from datakeys.controller.decisions.keys import KeyFacts
from datakeys.controller.decisions.request_view import RequestView

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
    if (old.issued, old.damaged, old.secret_ref) != (new.issued, new.damaged, new.secret_ref):
        return True
    return not pending and old.conditions != new.conditions


def changes_outcome(old: KeyFacts | None, new: KeyFacts) -> bool:
    """Return whether a change of a KmsKey can change the outcome of requests."""
    return old is None or (old.arn, old.state) != (new.arn, new.state)


def waits_for_key(request: RequestView, key: KeyFacts) -> bool:
    """Return whether a request of any namespace names this key; an alias may lead to any of its account."""
    same_account = request.key.namespace == key.key.namespace
    if request.key_ref is not None:
        return same_account and request.key_ref == key.key.name
    if request.key_id == key.arn or (same_account and request.key_id == key.key_id):
        return True
    alias = find_alias(request)
    return alias is not None and alias[0] == key.key.namespace


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

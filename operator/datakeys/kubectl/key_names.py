"""Which KmsKey a text names: its name, key id, key ARN, alias name or alias ARN. Zone: no I/O."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from datakeys.contract.arn import Arn
from datakeys.kubectl.answers import Json, name_of, namespace_of
from datakeys.kubectl.requests import ready_condition

#: What every alias name begins with.
ALIAS_PREFIX: Final = "alias/"


def find_key(text: str, namespace: str, keys: Sequence[Json], aliases: Sequence[Json]) -> Json | None:
    """Return the KmsKey that a text names in a namespace, or None.

    Args:
        text: One of the five forms.
        namespace: Where names, ids and alias names are looked for; an ARN brings its own.
        keys: KmsKeys of any namespaces.
        aliases: KmsAliases of any namespaces.
    """
    arn = _parse_arn(text)
    if arn is not None:
        text, namespace = arn.name, arn.account
    here = [key for key in keys if namespace_of(key) == namespace]
    if text.startswith(ALIAS_PREFIX):
        return _find_by_alias(text, namespace, here, aliases)
    by_id = [key for key in here if status_of(key).get("keyId") == text]
    by_name = [key for key in here if arn is None and name_of(key) == text]
    return next(iter(by_name + by_id), None)


def find_request_key(request: Json, keys: Sequence[Json], aliases: Sequence[Json]) -> Json | None:
    """Return the KmsKey of a DataKeyRequest: of the data key it has, else of the one it asks for."""
    arn = status_of(request).get("keyId")
    spec = request.get("spec") or {}
    text = arn or (spec.get("keyRef") or {}).get("name") or spec.get("keyId") or ""
    return find_key(text, namespace_of(request), keys, aliases) if text else None


def wanted_key(request: Json) -> str:
    """Return how a DataKeyRequest names its key."""
    spec = request.get("spec") or {}
    return str((spec.get("keyRef") or {}).get("name") or spec.get("keyId") or "")


def alias_name(alias: Json) -> str:
    """Return the alias name of a KmsAlias, with its prefix."""
    return str((alias.get("spec") or {}).get("aliasName") or f"{ALIAS_PREFIX}{name_of(alias)}")


def list_alias_names(key: Json, aliases: Sequence[Json]) -> list[str]:
    """Return the alias names of a key, sorted."""
    return sorted(alias_name(alias) for alias in aliases if _points_to(alias, key))


def is_named(reference: Any, key: Json) -> bool:  # noqa: ANN401 - JSON
    """Return whether ``{keyRef: …}`` or ``{keyId: …}`` names a key by name, id or ARN."""
    status = status_of(key)
    if reference.get("keyRef"):
        return bool(reference["keyRef"].get("name") == name_of(key))
    return reference.get("keyId") in {status.get("keyId"), status.get("arn")} - {None}


def status_of(body: Json) -> Json:
    """Return an object's status, empty if there is none yet."""
    return body.get("status") or {}


def _parse_arn(text: str) -> Arn | None:
    try:
        return Arn.parse(text)
    except ValueError:
        return None


def _find_by_alias(text: str, namespace: str, keys: Sequence[Json], aliases: Sequence[Json]) -> Json | None:
    mine = [one for one in aliases if namespace_of(one) == namespace and alias_name(one) == text]
    return next(iter(_keys_of(mine, keys)), None)


def _keys_of(aliases: Sequence[Json], keys: Sequence[Json]) -> Iterator[Json]:
    yield from (key for alias in aliases for key in keys if _points_to(alias, key))


def _points_to(alias: Json, key: Json) -> bool:
    if namespace_of(alias) != namespace_of(key):
        return False
    target = status_of(alias).get("targetKeyArn")
    if target:
        return bool(target == status_of(key).get("arn"))
    if ready_condition(alias).status == "False":
        return False
    spec = alias.get("spec") or {}
    return is_named({"keyRef": spec.get("targetKeyRef"), "keyId": spec.get("targetKeyId")}, key)

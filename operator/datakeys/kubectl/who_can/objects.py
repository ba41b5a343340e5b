"""Rights by DataKeyRequests and by KmsGrants. Zone: no I/O."""

from collections.abc import Iterator, Sequence

from datakeys.contract.crd.kmsgrant import GrantOperation
from datakeys.kubectl.answers import Json, name_of, namespace_of
from datakeys.kubectl.key_names import find_request_key, is_named, status_of
from datakeys.kubectl.requests import account_of, ready_condition
from datakeys.kubectl.who_can.operations import DECRYPT
from datakeys.kubectl.who_can.rights import Right, Source


def list_request_rights(
    key: Json, aliases: Sequence[Json], requests: Sequence[Json], operations: Sequence[GrantOperation]
) -> Iterator[Right]:
    """Give the ServiceAccounts that data keys under a key are bound to: each may decrypt its own."""
    if DECRYPT not in operations:
        return
    for request in requests:
        if not _is_under(request, key, aliases):
            continue
        ready = ready_condition(request)
        yield Right(
            kind="ServiceAccount",
            namespace=namespace_of(request),
            name=account_of(request),
            source=Source.REQUEST,
            given_by=f"{namespace_of(request)}/{name_of(request)}",
            note="this data key only, from a pod"
            if ready.is_true
            else f"not yet: {ready.reason or 'Pending'}",
            effective=ready.is_true,
        )


def list_grant_rights(
    key: Json, grants: Sequence[Json], operations: Sequence[GrantOperation]
) -> Iterator[Right]:
    """Give the grantees of a key."""
    for grant in grants:
        spec = grant["spec"]
        if not set(operations) & set(spec["operations"]) or not _is_on(grant, key):
            continue
        ready = ready_condition(grant)
        grantee = spec["granteePrincipal"]
        yield Right(
            kind="ServiceAccount",
            namespace=grantee.get("namespace") or namespace_of(grant),
            name=grantee["serviceAccountName"],
            source=Source.GRANT,
            given_by=f"{namespace_of(grant)}/{name_of(grant)}",
            note=_tell_limits(spec, operations) if ready.is_true else f"not in force: {ready.reason}",
            effective=ready.is_true,
        )


def _is_under(request: Json, key: Json, aliases: Sequence[Json]) -> bool:
    arn = status_of(request).get("keyId")
    if arn:
        return bool(arn == status_of(key).get("arn"))
    return find_request_key(request, [key], aliases) is not None


def _is_on(grant: Json, key: Json) -> bool:
    arn = status_of(grant).get("keyArn")
    if arn:
        return bool(arn == status_of(key).get("arn"))
    return namespace_of(grant) == namespace_of(key) and is_named(grant["spec"], key)


def _tell_limits(spec: Json, operations: Sequence[GrantOperation]) -> str:
    notes = []
    constraints = spec.get("constraints") or {}
    for form, word in (("encryptionContextEquals", "is"), ("encryptionContextSubset", "has")):
        if constraints.get(form):
            pairs = ",".join(f"{name}={value}" for name, value in sorted(constraints[form].items()))
            notes.append(f"if the encryption context {word} {pairs}")
    if DECRYPT in operations:
        notes.append("never a data key of a DataKeyRequest")
    return "; ".join(notes)

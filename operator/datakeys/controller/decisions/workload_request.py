"""Which DataKeyRequests a workload gets, and what each of them needs next. Zone: no secrets, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from datakeys.contract.identity import (
    ANNOTATION_DELETION_POLICY,
    ANNOTATION_SCOPE,
    API_VERSION,
    LABEL_MANAGED_BY,
    LABEL_WORKLOAD,
    MANAGED_BY,
)
from datakeys.contract.workload import (
    AnnotationError,
    DeletionPolicy,
    Scope,
    WorkloadWish,
    build_request_name,
    parse_workload_wish,
)
from datakeys.controller.decisions.workload_view import WorkloadView

#: The members of a request's spec that the annotations decide.
_COMPARED: Final = (
    "keyId",
    "keyRef",
    "keySpec",
    "numberOfBytes",
    "encryptionContext",
    "serviceAccountName",
)


class ProblemReason(StrEnum):
    """Why a workload doesn't get the data key it asks for, or not as it asks for it."""

    ANNOTATION_REFUSED = "AnnotationRefused"
    REQUEST_CONFLICT = "RequestConflict"
    REQUEST_DIFFERS = "RequestDiffers"
    REQUEST_LEAVING = "RequestLeaving"


@dataclass(frozen=True, slots=True)
class Problem:
    """What a person is told, with the next step."""

    reason: ProblemReason
    message: str


@dataclass(frozen=True, slots=True)
class WantedRequests:
    """The requests that a workload should have.

    Attributes:
        bodies: DataKeyRequests as they are created, by name.
        owner: The ownerReference that each request made for the workload should have; None: none.
        problem: What can't be had of it.
    """

    bodies: Mapping[str, dict[str, Any]]
    owner: Mapping[str, Any] | None
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Create:
    """There is no request of the name."""


@dataclass(frozen=True, slots=True)
class SetOwners:
    """The request is ours, and its ownerReferences must become these."""

    owners: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is to be written; ``problem``: what isn't as it should be."""

    problem: Problem | None


Step = Create | SetOwners | Leave


def workload_label(view: WorkloadView) -> str:
    """Return the value of the label by which all requests made for a workload are found, 1..63 characters."""
    return build_request_name(view.workload)


def decide_wanted_requests(view: WorkloadView) -> WantedRequests | Problem | None:
    """Return the requests that a workload should have; None if it asks for no data key."""
    try:
        wish = parse_workload_wish(view.annotations)
    except AnnotationError as error:
        return Problem(
            ProblemReason.ANNOTATION_REFUSED, f"{error}; no data key is made before that is put right"
        )
    if wish is None:
        return None
    if wish.scope is Scope.WORKLOAD:
        ordinals: Sequence[int | None] = (None,)
    elif view.ordinals is None:
        return Problem(
            ProblemReason.ANNOTATION_REFUSED,
            f"annotation {ANNOTATION_SCOPE}: pod is for StatefulSets, whose pods have ordinals, not for "
            f"{view.workload}; no data key is made before that is put right",
        )
    else:
        ordinals = view.ordinals
    owner, problem = _decide_owner(view, wish)
    bodies = [_build_request(view, wish, ordinal, owner) for ordinal in ordinals]
    return WantedRequests({body["metadata"]["name"]: body for body in bodies}, owner, problem)


def decide_request_step(
    view: WorkloadView, wanted: WantedRequests, body: Mapping[str, Any], found: Mapping[str, Any] | None
) -> Step:
    """Return what a wanted request needs next.

    Args:
        view: The workload.
        wanted: What the workload should have.
        body: The request as it should be.
        found: The object of its name, or None.
    """
    if found is None:
        return Create()
    if not is_made_for(view, found):
        return Leave(_conflict(view, found))
    owners = _decide_owners(view, wanted.owner, found)
    if owners is None:
        return Leave(_leaving(view, found))
    if owners != _owners_of(found):
        return SetOwners(owners)
    return Leave(_find_difference(body, found))


def decide_former_step(view: WorkloadView, wanted: WantedRequests, found: Mapping[str, Any]) -> Step:
    """Return what a request needs that was made for the workload and isn't wanted now: a pod scaled away.

    Its data key stays for when the pod comes back; whether it goes with the workload follows the annotation.
    """
    owners = _decide_owners(view, wanted.owner, found) if is_made_for(view, found) else None
    return Leave(None) if owners is None or owners == _owners_of(found) else SetOwners(owners)


def is_made_for(view: WorkloadView, found: Mapping[str, Any]) -> bool:
    """Return whether a request is one that the controller made for a workload."""
    labels, ref = found["metadata"].get("labels") or {}, found["spec"].get("workloadRef") or {}
    return labels.get(LABEL_MANAGED_BY) == MANAGED_BY and _names_workload(view, ref)


def _build_request(
    view: WorkloadView, wish: WorkloadWish, ordinal: int | None, owner: Mapping[str, Any] | None
) -> dict[str, Any]:
    spec = {
        "keyId": wish.key_id,
        "keyRef": None if wish.key_ref is None else {"name": wish.key_ref},
        "keySpec": None if wish.key_spec is None else str(wish.key_spec),
        "numberOfBytes": wish.number_of_bytes,
        "encryptionContext": dict(wish.encryption_context) or None,
        "serviceAccountName": view.service_account,
        "workloadRef": {
            "apiVersion": view.api_version,
            "kind": view.workload.kind,
            "name": view.workload.name,
        },
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "DataKeyRequest",
        "metadata": {
            "name": build_request_name(view.workload, ordinal),
            "namespace": view.namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_WORKLOAD: workload_label(view)},
            **({"ownerReferences": [owner]} if owner else {}),
        },
        "spec": {name: value for name, value in spec.items() if value is not None},
    }


def _decide_owner(view: WorkloadView, wish: WorkloadWish) -> tuple[dict[str, Any] | None, Problem | None]:
    if wish.deletion_policy is DeletionPolicy.RETAIN:
        return None, None
    if view.uid is None:
        return None, Problem(
            ProblemReason.ANNOTATION_REFUSED,
            f"annotation {ANNOTATION_DELETION_POLICY}: Delete needs a workload whose end can be seen, and "
            "pods of one generateName have none; the data key is retained",
        )
    return {
        "apiVersion": view.api_version,
        "kind": view.workload.kind,
        "name": view.workload.name,
        "uid": view.uid,
        # Neither controls the request nor holds up the deletion of the workload.
        "controller": False,
        "blockOwnerDeletion": False,
    }, None


def _decide_owners(
    view: WorkloadView, owner: Mapping[str, Any] | None, found: Mapping[str, Any]
) -> list[Mapping[str, Any]] | None:
    """Return the ownerReferences a request should have; None if it goes with a former workload of the name.

    That one was deleted with the policy Delete, so its data key is not handed on: whether the new workload
    got it would depend on who is faster, this controller or the garbage collector.
    """
    present = _owners_of(found)
    own = [one for one in present if _names_workload(view, one)]
    current = [one for one in own if one["uid"] == view.uid]
    if "deletionTimestamp" in found["metadata"] or (own and not current):
        return None
    if owner is None:
        return [one for one in present if one not in own]
    kept = [one for one in present if one not in own or one in current]
    return kept if current else [*kept, owner]


def _owners_of(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(found["metadata"].get("ownerReferences") or ())


def _names_workload(view: WorkloadView, reference: Mapping[str, Any]) -> bool:
    """Return whether a reference names the workload; versions of its API group don't matter."""
    groups = [version.rpartition("/")[0] for version in (reference.get("apiVersion", ""), view.api_version)]
    named = (reference.get("kind"), reference.get("name"))
    return groups[0] == groups[1] and named == (view.workload.kind, view.workload.name)


def _conflict(view: WorkloadView, found: Mapping[str, Any]) -> Problem:
    name = found["metadata"]["name"]
    return Problem(
        ProblemReason.REQUEST_CONFLICT,
        f"DataKeyRequest {name} exists and wasn't made for {view.workload}, so nothing is done to it: delete "
        "it or rename the workload, and a data key is made",
    )


def _leaving(view: WorkloadView, found: Mapping[str, Any]) -> Problem:
    return Problem(
        ProblemReason.REQUEST_LEAVING,
        f"DataKeyRequest {found['metadata']['name']} is being deleted with a former {view.workload}; once it "
        "is gone a new data key is made",
    )


def _find_difference(body: Mapping[str, Any], found: Mapping[str, Any]) -> Problem | None:
    wanted, given = body["spec"], found["spec"]
    differing = [name for name in _COMPARED if (wanted.get(name) or None) != (given.get(name) or None)]
    if not differing:
        return None
    name = found["metadata"]["name"]
    text = (
        f"DataKeyRequest {name} was made with another {', '.join(differing)} than the workload now asks for. "
    )
    if not (found.get("status") or {}).get("ciphertextBlob"):
        return Problem(
            ProblemReason.REQUEST_DIFFERS,
            f"{text}It has no data key yet. While that is so (kubectl get dkr {name}: READY False), "
            "nothing is lost by deleting it: it is made anew as the workload now asks",
        )
    text += (
        "The data key stays as it was issued. Put the workload back, or delete the request to get a new data "
        "key: what the present one encrypts can't be read any more then"
    )
    if "serviceAccountName" in differing:
        text += (
            f". Pods of ServiceAccount {wanted['serviceAccountName']} can't decrypt it: it is bound to "
            f"{given['serviceAccountName']}, and a grant doesn't change that"
        )
    return Problem(ProblemReason.REQUEST_DIFFERS, text)

"""How far is the sidecar? Zone: no I/O; of the log only event names, codes and advice."""

from collections.abc import Sequence
from typing import Final

from datakeys.contract.identity import SIDECAR_NAME
from datakeys.kubectl.answers import Gap, Json, list_items
from datakeys.kubectl.explain.checks import Check, failed, passed, unseen, waits
from datakeys.kubectl.explain.facts import PodFacts
from datakeys.kubectl.explain.pod_wishes import (
    find_sidecar_status,
    is_init_container,
    is_native_sidecar,
    list_mounted_secrets,
    read_wishes,
)
from datakeys.kubectl.explain.told_checks import time_of
from datakeys.kubectl.requests import list_secret_names

#: Reasons of a waiting container for which waiting is enough.
_STARTING: Final = frozenset({"PodInitializing", "ContainerCreating"})
#: Events after which earlier failures don't count.
_SUCCESSES: Final = frozenset({"delivered", "endpoint_ready"})
#: Stands for the KMS endpoint among names of data keys.
_ENDPOINT: Final = ""
_MOUNT_FAILED: Final = "FailedMount"


def check_sidecar(facts: PodFacts) -> list[Check]:
    """Check the pod's Secrets, the injected container and what it has logged."""
    checks = _check_mounts(facts)
    status = find_sidecar_status(facts.pod)
    if status is None:
        return [*checks, _check_unscheduled(facts.pod)]
    state = status.get("state") or {}
    if "waiting" in state:
        return [*checks, _check_waiting(state["waiting"], facts), *_check_log(facts)]
    if "terminated" in state:
        return [*checks, *_check_ended(state["terminated"], facts)]
    if is_native_sidecar(facts.pod) and status.get("started"):
        delivered = passed("delivered", _tell_delivered(facts))
        return [*checks, passed("sidecar", "the sidecar runs"), delivered, *_check_later_log(facts)]
    return [*checks, passed("sidecar", "the sidecar runs"), *_check_log(facts)]


def _check_mounts(facts: PodFacts) -> list[Check]:
    """Check that the Secrets of the volume are those of the requests: a pod can't be corrected later."""
    secrets = facts.around.secrets
    if isinstance(secrets, Gap):
        return []
    requests = (one for one in facts.around.requests.values() if isinstance(one, dict))
    own = {name for request in requests for name in list_secret_names(request)}
    strangers = [
        name for name in list_mounted_secrets(facts.pod) if name not in own and secrets.get(name) is None
    ]
    return [
        failed(
            "secret",
            f"the pod waits for Secret {name}, which doesn't exist",
            "if its DataKeyRequest has another Secret by now: delete the pod, so that it is made anew",
        )
        for name in strangers
    ]


def _check_unscheduled(pod: Json) -> Check:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    for one in conditions:
        if one["type"] == "PodScheduled" and one["status"] == "False":
            step = "that has nothing to do with data keys: kubectl describe pod tells more"
            return failed("sidecar", f"the pod isn't on a node: {one.get('message', '')}", step)
    return waits("sidecar", "the kubelet hasn't started the sidecar yet")


def _check_waiting(waiting: Json, facts: PodFacts) -> Check:
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason not in _STARTING:
        step = "look at the sidecar's image and at the pod's events: kubectl describe pod"
        return failed("sidecar", f"the sidecar can't start: {reason} {message}".rstrip(), step)
    mounts = [one for one in list_items(facts.warnings) if one.get("reason") == _MOUNT_FAILED]
    if mounts:
        newest = max(mounts, key=time_of)
        step = "the pod starts by itself once what it mounts is there"
        return waits("sidecar", f"the sidecar waits: {newest.get('message', '')}", step)
    return waits("sidecar", "the sidecar is being started")


def _check_ended(terminated: Json, facts: PodFacts) -> list[Check]:
    code = terminated.get("exitCode")
    if code == 0 and is_init_container(facts.pod):
        return [passed("delivered", "the keys were delivered, and the sidecar is gone as it should be")]
    if code == 0 and _has_delivered(facts):
        return [passed("delivered", f"{_tell_delivered(facts)}; the sidecar has ended with its pod")]
    if code == 0:
        return [waits("sidecar", "the sidecar has ended with its pod, and tells of no delivery")]
    step = "kubectl logs POD -c datakeys-sidecar tells more"
    return [failed("sidecar", f"the sidecar ended with status {code}", step), *_check_log(facts)]


def _check_log(facts: PodFacts) -> list[Check]:
    """Return what the sidecar last said about each data key that it hasn't delivered."""
    if isinstance(facts.log, Gap):
        return [unseen("delivered", "the sidecar's log", facts.log)]
    refused = [event for event in facts.log if event.get("event") == "refused"]
    if refused:
        step = "the sidecar and the webhook don't fit: update both, and delete the pod"
        return [failed("delivered", f"the sidecar refuses to run: {refused[-1].get('reason', '')}", step)]
    failures = find_open_failures(facts.log)
    if failures:
        return [_build_log_check("delivered", name, event) for name, event in failures.items()]
    if not is_native_sidecar(facts.pod) and _has_delivered(facts):
        return [passed("delivered", _tell_delivered(facts))]
    return [waits("delivered", "not yet; the sidecar tells of no error")]


def _check_later_log(facts: PodFacts) -> list[Check]:
    """Return what has happened since the delivery: keys that have ended, a KMS endpoint that has failed."""
    log = list_items(facts.log)
    expired = {str(event.get("request")): event for event in log if event.get("event") == "expired"}
    endpoint = find_open_failures(log).get(_ENDPOINT)
    return [
        *(
            passed("expired", f"{name} has been destroyed since, as the pod asks ({event.get('cause')})")
            for name, event in expired.items()
        ),
        *([_build_log_check("endpoint", _ENDPOINT, endpoint)] if endpoint else []),
    ]


def _build_log_check(check: str, name: str, event: Json) -> Check:
    what = f"data key {name}" if name else "the KMS endpoint"
    text, step = f"{what}: {event.get('code')}", str(event.get("next", ""))
    return waits(check, text, step) if event.get("event") == "waiting" else failed(check, text, step)


def check_app(pod: Json) -> list[Check]:
    """Return what keeps the pod's other containers from starting, so that nobody looks for it at the keys."""
    status = pod.get("status") or {}
    checks = []
    for one in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (one.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if one["name"] != SIDECAR_NAME and reason and reason not in _STARTING:
            text = f"container {one['name']} can't start: {reason} {waiting.get('message', '')}".rstrip()
            checks.append(
                waits("app", text, "this has nothing to do with its data keys: kubectl describe pod")
            )
    return checks


def find_open_failures(log: Sequence[Json]) -> dict[str, Json]:
    """Return the last failure of each data key, and of the KMS endpoint, unless a success came after it.

    Data keys have the names under which they are delivered; the endpoint's is empty.
    """
    failures: dict[str, Json] = {}
    for event in log:
        name = str(event.get("request", _ENDPOINT))
        if event.get("event") in _SUCCESSES:
            failures.pop(name, None)
        elif event.get("code"):
            failures[name] = event
    return failures


def _has_delivered(facts: PodFacts) -> bool:
    return any(event.get("event") in _SUCCESSES for event in list_items(facts.log))


def _tell_delivered(facts: PodFacts) -> str:
    requests = read_wishes(facts.pod).requests
    return f"delivered: {', '.join(requests)}" if requests else "the KMS endpoint is open"

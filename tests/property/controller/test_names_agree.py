"""The webhook mounts what the controller makes: both come to the same names without talking to each other."""

from typing import Any

import jsonpatch
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from annotated_workloads import KINDS, Json, build_owner, build_pod_template, build_workload
from datakeys.contract.identity import ANNOTATION_WORKLOAD, LABEL_INJECT
from datakeys.contract.workload import Scope
from datakeys.controller.decisions.pod_view import parse_pod
from datakeys.controller.decisions.workload_request import WantedRequests, decide_wanted_requests
from datakeys.controller.decisions.workload_view import WorkloadView, parse_pod_workload, parse_workload
from datakeys.webhook.patches.refusal import RefusedError
from datakeys.webhook.patches.sidecar import SidecarSettings
from datakeys.webhook.patches.stamps import build_stamps
from datakeys.webhook.patches.workload_key import parse_workload_key

pytestmark = pytest.mark.property

SETTINGS = SidecarSettings("sidecar", "Always", "https://keys", "c1")
#: Up to the longest name that each part may have, so that request names are cut.
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?", fullmatch=True).filter(
    lambda name: not any(pair in name for pair in ("..", ".-", "-."))
)
SCOPES = st.sampled_from([None, *Scope])
OWNER_KINDS = st.sampled_from(["ReplicaSet", "StatefulSet", "Job", "Rollout", "Node"])


def annotations_of(scope: str | None) -> Json:
    """Return the annotations of a workload."""
    return {} if scope is None else {"scope": scope}


def names_made(view: WorkloadView | None) -> set[str]:
    """Return the names of the requests that the controller makes."""
    wanted = None if view is None else decide_wanted_requests(view)
    return set(wanted.bodies) if isinstance(wanted, WantedRequests) else set()


def stored(body: Json) -> Json:
    """Return an object as the API server gives it."""
    body["metadata"] |= {"namespace": "shop", "uid": "u", "resourceVersion": "1"}
    return body


@given(
    kind=st.sampled_from(KINDS),
    name=NAMES,
    scope=SCOPES,
    replicas=st.integers(1, 3),
    start=st.integers(0, 200),
)
def test_pods_of_a_workload_mount_what_is_made_for_it(
    kind: str, name: str, scope: str | None, replicas: int, start: int
) -> None:
    """What the webhook stamps on a template leads each of its pods to a request that the controller makes."""
    spec: Json = {"replicas": replicas, "ordinals": {"start": start}} if kind == "StatefulSet" else {}
    workload = build_workload(kind, name, annotations=annotations_of(scope), **spec)
    template = workload["spec"].get("jobTemplate", workload)["spec"]["template"]
    del template["metadata"]["annotations"][ANNOTATION_WORKLOAD], workload["metadata"]["labels"][LABEL_INJECT]
    injection = build_stamps(workload, None, SETTINGS)
    if injection.refusal is not None:
        assert (scope == Scope.POD) == (kind != "StatefulSet")
        return
    admitted: Json = jsonpatch.apply_patch(workload, list(injection.patch))
    assert admitted["metadata"]["labels"][LABEL_INJECT] == "true"
    made = names_made(parse_workload(kind, stored(admitted)))
    template = admitted["spec"].get("jobTemplate", admitted)["spec"]["template"]
    ends = range(start, start + replicas) if kind == "StatefulSet" else ("x7f2k",)
    owner = build_owner(
        "Job" if kind == "CronJob" else "ReplicaSet" if kind == "Deployment" else kind, name, "v1"
    )
    mounted = set()
    for end in ends:
        pod = {
            **template,
            "metadata": {**template["metadata"], "name": f"{name}-{end}", "ownerReferences": [owner]},
        }
        key = parse_workload_key(pod)
        assert key is not None
        mounted.add(key.request)
        assert names_made(parse_pod_workload(parse_pod(stored(pod)))) == set()
    assert mounted == made


@given(
    name=st.none() | NAMES,
    prefix=st.none() | NAMES,
    dash=st.sampled_from(["", "-", "."]),
    owner=st.none() | st.tuples(OWNER_KINDS, NAMES),
    scope=SCOPES,
)
def test_pod_that_asks_itself_mounts_what_is_made_for_it(
    name: str | None, prefix: str | None, dash: str, owner: tuple[str, str] | None, scope: str | None
) -> None:
    """Bare, of a prefix, or of somebody's controller: what the webhook lets through, the controller makes."""
    assume(name or prefix)
    metadata: Json = {"generateName": prefix + dash} if prefix else {}
    if name:
        metadata["name"] = name
    if owner:
        metadata["ownerReferences"] = [build_owner(*owner, "example.org/v1")]
    own: Json = {
        f"datakeys.dev/{key}": value for key, value in {"key": "main", **annotations_of(scope)}.items()
    }
    pod: Json = build_pod_template(own, "app", "Always")
    pod["metadata"] |= metadata
    try:
        key = parse_workload_key(pod)
    except RefusedError:
        return
    assert key is not None
    admitted: Any = pod
    if key.stamp:
        admitted["metadata"]["annotations"][ANNOTATION_WORKLOAD] = str(key.workload)
    admitted["metadata"].setdefault("name", f"{prefix}{dash}x7f2k")
    made = names_made(parse_pod_workload(parse_pod(stored(admitted))))
    assert made == {key.request}

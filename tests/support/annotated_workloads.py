"""Builders of workloads that ask for a data key by annotation, as the webhook leaves them.

Zone: tests. The tests that use them run without the webhook: what it would have added is added here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from datakeys.contract.identity import ANNOTATION_KEY, ANNOTATION_WORKLOAD, LABEL_INJECT

Json = dict[str, Any]
KINDS: Final = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
_VERSIONS: Final = {"Job": "batch/v1", "CronJob": "batch/v1", "Pod": "v1"}
_MATCHED: Final = {"app": "test"}


def build_workload(
    kind: str,
    name: str = "orders",
    *,
    annotations: Json | None = None,
    account: str = "app",
    stamp: str | None = None,
    owners: list[Json] | None = None,
    on_template: bool = False,
    **spec: Any,
) -> Json:
    """Return a workload with the annotations of its data key; ``alias/main`` unless they say another key.

    Args:
        kind: One of ``KINDS``, or ``Pod``.
        name: Its name.
        annotations: Further ones, without the prefix.
        account: ServiceAccount of the pods.
        stamp: The stamp of the pod template; default: the workload itself.
        owners: Its ownerReferences.
        on_template: Put the annotations on the pod template only, not on the object itself.
        spec: More members of its spec.
    """
    own = {
        f"datakeys.dev/{key}": value for key, value in {"key": "alias/main", **(annotations or {})}.items()
    }
    if kind == "Pod":
        stamps = {} if stamp is None else {ANNOTATION_WORKLOAD: stamp}
        body = build_pod_template({**own, **stamps}, account, restart="Always")
        return _finish(body, kind, name, owners)
    template_annotations = {
        ANNOTATION_KEY: own[ANNOTATION_KEY],
        ANNOTATION_WORKLOAD: stamp or f"{kind}/{name}",
    }
    if on_template:
        template_annotations.update(own)
    once = kind in ("Job", "CronJob")
    template = build_pod_template(template_annotations, account, restart="Never" if once else "Always")
    body = {"metadata": {"annotations": {} if on_template else own}, "spec": _spec(kind, template)}
    body["spec"].update(spec)
    return _finish(body, kind, name, owners)


def build_pod_template(annotations: Json, account: str, restart: str) -> Json:
    """Return a labelled pod template."""
    return {
        "metadata": {"labels": {**_MATCHED, LABEL_INJECT: "true"}, "annotations": annotations},
        "spec": {
            "serviceAccountName": account,
            "restartPolicy": restart,
            "containers": [{"name": "app", "image": "app"}],
        },
    }


def build_owner(
    kind: str, name: str, api_version: str, uid: str = "00000000-0000-4000-8000-000000000001"
) -> Json:
    """Return a controlling ownerReference."""
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}


def _finish(body: Json, kind: str, name: str, owners: list[Json] | None) -> Json:
    metadata = body["metadata"]
    metadata["name"] = name
    metadata["labels"] = {**metadata.get("labels", {}), LABEL_INJECT: "true"}
    if owners is not None:
        metadata["ownerReferences"] = owners
    return {"apiVersion": _VERSIONS.get(kind, "apps/v1"), "kind": kind, **body}


def _spec(kind: str, template: Json) -> Json:
    if kind == "CronJob":
        return {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}}
    if kind == "Job":
        return {"template": template}
    services = {"serviceName": "orders"} if kind == "StatefulSet" else {}
    return {"selector": {"matchLabels": _MATCHED}, "template": template, **services}


@contextmanager
def unless_gone() -> Iterator[None]:
    """Don't mind if an object isn't there any more."""
    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise


@dataclass(frozen=True)
class WorkloadClient:
    """The workloads of one namespace, as a user sees them."""

    api: client.ApiClient
    namespace: str

    def create(self, body: Json, **options: Any) -> Any:
        """Create a workload of any kind."""
        return self._call("create", body["kind"], body, **options)

    def patch(self, kind: str, name: str, body: Json) -> Any:
        """Merge a patch into a workload."""
        merge = "application/merge-patch+json"
        return self._call("patch", kind, body, name, _content_type=merge)

    def replace(self, kind: str, name: str, body: Json, **options: Any) -> Any:
        """Replace a workload."""
        return self._call("replace", kind, body, name, **options)

    def annotate(self, kind: str, name: str, **annotations: str | None) -> None:
        """Set or remove annotations of a workload; without prefix, dashes as underscores."""
        own = {f"datakeys.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.patch(kind, name, {"metadata": {"annotations": own}})

    def delete(self, kind: str, name: str, *, propagation: str = "Background") -> None:
        """Delete a workload, at once."""
        self._call("delete", kind, None, name, propagation_policy=propagation, grace_period_seconds=0)

    def exists(self, kind: str, name: str) -> bool:
        """Return whether a workload exists, be it on its way out."""
        return any(item.metadata.name == name for item in self._call("list", kind, None).items)

    def delete_all(self) -> None:
        """Delete all workloads and pods; the garbage collector may do the same meanwhile."""
        for kind in (*KINDS, "Pod"):
            for item in self._call("list", kind, None).items:
                with unless_gone():
                    self.delete(kind, item.metadata.name)

    def _call(self, verb: str, kind: str, body: Any, *names: str, **options: Any) -> Any:
        api = {"Job": client.BatchV1Api, "CronJob": client.BatchV1Api, "Pod": client.CoreV1Api}
        snake = {"StatefulSet": "stateful_set", "DaemonSet": "daemon_set", "CronJob": "cron_job"}
        method = getattr(
            api.get(kind, client.AppsV1Api)(self.api), f"{verb}_namespaced_{snake.get(kind, kind.lower())}"
        )
        bodies = () if body is None else (body,)
        return method(*names, self.namespace, *bodies, **options)

"""URL paths of the API server. Zone: no I/O. Source: Kubernetes API concepts, "Resource URIs"."""

from typing import Final
from urllib.parse import quote, urlencode

from datakeys.contract.identity import GROUP, VERSION

CORE: Final = "/api/v1"
DATAKEYS: Final = f"/apis/{GROUP}/{VERSION}"
APPS: Final = "/apis/apps/v1"
BATCH: Final = "/apis/batch/v1"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"

KEYS: Final = "kmskeys"
ALIASES: Final = "kmsaliases"
GRANTS: Final = "kmsgrants"
REQUESTS: Final = "datakeyrequests"

#: Where the workloads that can ask for a data key live, by kind.
WORKLOADS: Final = {
    "Deployment": (APPS, "deployments"),
    "StatefulSet": (APPS, "statefulsets"),
    "DaemonSet": (APPS, "daemonsets"),
    "ReplicaSet": (APPS, "replicasets"),
    "Job": (BATCH, "jobs"),
    "CronJob": (BATCH, "cronjobs"),
    "Pod": (CORE, "pods"),
}


def build_path(group: str, plural: str, namespace: str | None = None, *names: str, **parameters: str) -> str:
    """Return the path of a collection, an object or a subresource; ``namespace`` None: of all namespaces."""
    parts = [group] if namespace is None else [group, "namespaces", quote(namespace, safe="")]
    path = "/".join([*parts, plural, *(quote(name, safe="") for name in names)])
    return f"{path}?{urlencode(parameters)}" if parameters else path


def workload_path(kind: str, namespace: str | None, *names: str) -> str:
    """Return the path of a workload, or of all of its kind."""
    group, plural = WORKLOADS[kind]
    return build_path(group, plural, namespace, *names)

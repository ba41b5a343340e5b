"""What Prometheus may read. Zone: counts and names of operations; no object names, no contents."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

REQUESTS: Final = Gauge(
    "datakeys_requests", "DataKeyRequests by how they stand.", ["state"], registry=REGISTRY
)
RECONCILE_SECONDS: Final = Histogram(
    "datakeys_reconcile_seconds",
    "Time that one look at a DataKeyRequest takes.",
    ["result"],
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
QUEUE_LENGTH: Final = Gauge(
    "datakeys_queue_length", "DataKeyRequests that wait for a worker.", registry=REGISTRY
)
KEY_QUEUE_LENGTH: Final = Gauge(
    "datakeys_key_queue_length", "KmsKeys whose status waits for a look at the key.", registry=REGISTRY
)
WORKLOADS: Final = Gauge(
    "datakeys_workloads",
    "Workloads that ask for a data key, by how they stand.",
    ["state"],
    registry=REGISTRY,
)
WORKLOAD_QUEUE_LENGTH: Final = Gauge(
    "datakeys_workload_queue_length", "Annotated workloads that wait for a worker.", registry=REGISTRY
)
WRITES: Final = Counter(
    "datakeys_writes", "Writes to the Kubernetes API.", ["kind", "verb"], registry=REGISTRY
)
KEYSERVICE_CALLS: Final = Counter(
    "datakeys_keyservice_calls", "Calls of the key service.", ["operation", "code"], registry=REGISTRY
)
RE_ENCRYPTIONS: Final = Counter(
    "datakeys_re_encryptions",
    "Attempts to re-encrypt the data keys of a DataKeyRequest, by how they ended.",
    ["result"],
    registry=REGISTRY,
)
CAMPAIGN_QUEUE_LENGTH: Final = Gauge(
    "datakeys_campaign_queue_length", "KmsKeys whose re-encryption waits for a worker.", registry=REGISTRY
)
EVENTS_DROPPED: Final = Counter(
    "datakeys_events_dropped", "Events that weren't posted, because there were too many.", registry=REGISTRY
)
LEADER: Final = Gauge("datakeys_leader", "1 in the replica that leads.", registry=REGISTRY)

PODS_NOT_INJECTED: Final = Gauge(
    "datakeys_pods_not_injected",
    "Pods with the label datakeys.dev/inject that run without sidecar.",
    ["namespace"],
    registry=REGISTRY,
)
EVICTIONS: Final = Counter(
    "datakeys_evictions",
    "Evictions of uninjected pods: evicted, blocked (a PodDisruptionBudget, or the API server), refused.",
    ["result"],
    registry=REGISTRY,
)
EVICTION_STOPPED: Final = Gauge(
    "datakeys_eviction_stopped",
    "1 while nothing is evicted, because a pod made in place of an evicted one wasn't injected either.",
    registry=REGISTRY,
)
POD_QUEUE_LENGTH: Final = Gauge(
    "datakeys_pod_queue_length", "Uninjected pods that wait to be told about.", registry=REGISTRY
)

"""What an explanation is made from, and fetching it. Zone: reads only, with the user's rights."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from datakeys.contract.identity import SIDECAR_NAME, TRUST_BUNDLE_CONFIG_MAP
from datakeys.kubectl import paths
from datakeys.kubectl.answers import Answer, Gap, Items, Json
from datakeys.kubectl.cluster import Cluster, SecretRow, fetch_all
from datakeys.kubectl.explain.pod_wishes import (
    find_sidecar_status,
    list_mounted_secrets,
    read_wishes,
)
from datakeys.kubectl.requests import list_secret_names

WEBHOOK: Final = "datakeys-webhook"
_LOG_LINES: Final = 200

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What surrounds DataKeyRequests.

    Attributes:
        requests: The DataKeyRequests by name.
        secrets: Rows of the Secrets by name; None of a Secret that isn't there.
        trust_bundle: ConfigMap ``datakeys-trust-bundle`` of the namespace.
    """

    requests: Mapping[str, Answer]
    keys: Items
    aliases: Items
    secrets: Mapping[str, SecretRow | None] | Gap
    trust_bundle: Answer


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What surrounds a pod.

    Attributes:
        webhook: The MutatingWebhookConfiguration.
        namespace: The pod's Namespace.
        log: The sidecar's last log lines that are JSON objects; empty before it has started.
        warnings: The pod's warning Events, in no order.
    """

    pod: Json
    around: RequestFacts
    webhook: Answer
    namespace: Answer
    log: list[Json] | Gap
    warnings: Items


def fetch_request_facts(
    cluster: Cluster, namespace: str, names: Iterable[str], secrets: Iterable[str] = ()
) -> RequestFacts:
    """Fetch what surrounds DataKeyRequests; ``secrets`` are further Secrets to look at.

    Raises:
        ClusterError: There is no answer.
    """
    answers = fetch_all(_request_calls(cluster, namespace, names))
    return _build_request_facts(cluster, namespace, answers, secrets)


def fetch_pod_facts(cluster: Cluster, pod: Json) -> PodFacts:
    """Fetch what surrounds a pod.

    Raises:
        ClusterError: There is no answer.
    """
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    webhook_path = paths.build_path(paths.ADMISSION, "mutatingwebhookconfigurations", None, WEBHOOK)
    namespace_path = paths.build_path(paths.CORE, "namespaces", None, namespace)
    answers: dict[object, Any] = fetch_all(
        {
            **_request_calls(cluster, namespace, read_wishes(pod).requests),
            "webhook": partial(cluster.look, webhook_path),
            "namespace": partial(cluster.look, namespace_path),
            "log": partial(fetch_log, cluster, pod),
            "warnings": partial(fetch_warnings, cluster, namespace, "Pod", name),
        }
    )
    return PodFacts(
        pod=pod,
        around=_build_request_facts(cluster, namespace, answers, list_mounted_secrets(pod)),
        webhook=answers["webhook"],
        namespace=answers["namespace"],
        log=answers["log"],
        warnings=answers["warnings"],
    )


def _request_calls(cluster: Cluster, namespace: str, names: Iterable[str]) -> dict[Any, Call]:
    """Return the calls for what surrounds requests, which need no answer before them."""
    at = partial(paths.build_path, paths.DATAKEYS)
    trust_path = paths.build_path(paths.CORE, "configmaps", namespace, TRUST_BUNDLE_CONFIG_MAP)
    return {
        **{
            (paths.REQUESTS, name): partial(cluster.look, at(paths.REQUESTS, namespace, name))
            for name in names
        },
        **{plural: partial(cluster.items, at(plural, namespace)) for plural in (paths.KEYS, paths.ALIASES)},
        "trust": partial(cluster.look, trust_path),
    }


def _build_request_facts(
    cluster: Cluster, namespace: str, answers: Mapping[object, Any], secrets: Iterable[str]
) -> RequestFacts:
    requests = {key[1]: answer for key, answer in answers.items() if isinstance(key, tuple)}
    issued = [name for one in requests.values() if isinstance(one, dict) for name in list_secret_names(one)]
    return RequestFacts(
        requests=requests,
        keys=answers[paths.KEYS],
        aliases=answers[paths.ALIASES],
        secrets=fetch_secrets(cluster, namespace, dict.fromkeys([*secrets, *issued])),
        trust_bundle=answers["trust"],
    )


def fetch_secrets(
    cluster: Cluster, namespace: str, names: Iterable[str]
) -> dict[str, SecretRow | None] | Gap:
    """Fetch the rows of Secrets by name.

    Raises:
        ClusterError: There is no answer.
    """
    wanted = list(names)
    if not wanted:
        return {}
    rows = cluster.secrets(namespace, *wanted)
    if isinstance(rows, Gap):
        return rows
    found = {row.name: row for row in rows}
    return {name: found.get(name) for name in wanted}


def fetch_log(cluster: Cluster, pod: Json) -> list[Json] | Gap:
    """Fetch the sidecar's last log lines.

    Raises:
        ClusterError: There is no answer.
    """
    if find_sidecar_status(pod) is None:
        return []
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    found = cluster.text(
        paths.build_path(
            paths.CORE, "pods", namespace, name, "log", container=SIDECAR_NAME, tailLines=str(_LOG_LINES)
        )
    )
    return found if isinstance(found, Gap) else parse_log(found)


def fetch_warnings(cluster: Cluster, namespace: str, kind: str, name: str) -> Items:
    """Fetch the warning Events about an object.

    Raises:
        ClusterError: There is no answer.
    """
    selector = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
    return cluster.items(paths.build_path(paths.CORE, "events", namespace, fieldSelector=selector))


def parse_log(text: str) -> list[Json]:
    """Return the lines of a log that are JSON objects."""
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events

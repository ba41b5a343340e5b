"""Bad values are refused before anything is rendered, and the message names the value."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart_rendering import CHART, template

TOO_MANY = 1000
BAD: list[tuple[str, Any]] = [
    ("clusterName", "Cluster_1"),
    ("clusterName", "-a"),
    ("clusterName", "a" * 64),
    ("clusterName", 7),
    ("clusterNam", "x"),
    ("excludedNamespaces", "kube-system"),
    ("excludedNamespaces", ["x' in []) || ('a"]),
    ("admission.checkCreators", "true"),
    ("admission.checkCreators", None),
    ("admission.checkCreator", True),
    ("admission.ephemeralContainers", "Deny"),
    ("admission.ephemeralContainers", False),
    ("image.registry", "https://registry.example"),
    ("image.tag", "a tag"),
    ("image.pullPolicy", "Sometimes"),
    ("image.pullSecrets", [{"name": "a"}]),
    ("logLevel", "TRACE"),
    ("controller.replicas", 0),
    ("controller.replicas", "2"),
    ("controller.replica", 2),
    ("webhook.replicas", TOO_MANY),
    ("keyservice.image.repository", "Upper/Case"),
    ("keyservice.image.digest", "sha256:abc"),
    ("keyservice.image.name", "x"),
    ("keyservice.logLevel", "debug"),
    ("keyservice.tokenCacheSeconds", -1),
    ("keyservice.tokenCacheSeconds", 61),
    ("keyservice.tokenCacheSeconds", 1.5),
    ("webhook.tokenCacheSeconds", 1),
    ("webhook.failurePolicy", "fail"),
    ("webhook.timeoutSeconds", 0),
    ("webhook.timeoutSeconds", 31),
    ("controller.resources.requests.cpu", "a lot"),
    ("controller.resources.requests.gpu", 1),
    ("controller.resources.limits", None),
    ("controller.nodeSelector", ["a"]),
    ("controller.tolerations", {"key": "a"}),
    ("controller.affinity.nodeAfinity", {}),
    ("controller.topologySpreadConstraints", [{"maxSkew": 1}]),
    ("controller.priorityClassName", "Not A Name"),
    ("controller.podAnnotations.a", 1),
    ("controller.extraEnv", [{"name": "1BAD", "value": "x"}]),
    ("controller.extraEnv", [{"name": "A", "value": 1}]),
    ("sidecar.replicas", 1),
    ("sidecar.kind", "auto"),
    ("podDisruptionBudget.enabled", "yes"),
    ("networkPolicy.enabled", 1),
    ("networkPolicy.apiServer.ports", [0]),
    ("networkPolicy.apiServer.ports", []),
    ("networkPolicy.apiServer.peers", [{}]),
    ("networkPolicy.dns.peers", [{"ipBlock": {"cidr": "anywhere"}}]),
    ("networkPolicy.metrics.peers", [{"podSelecter": {}}]),
    ("metrics.annotations", "true"),
    ("metrics.serviceMonitor.enabled", None),
    ("metrics.serviceMonitor.interval", "30"),
    ("metrics.serviceMonitor.labels", {"a": "b c"}),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={str(value)[:20]}" for name, value in BAD])
def test_bad_value_is_refused_by_name(name: str, value: Any) -> None:
    """The message contains the path of the value, or the name that isn't known there."""
    done = template({name: value})
    folder, _, last = name.rpartition(".")
    path = "/" + name.replace(".", "/")
    unknown = f"'/{folder.replace('.', '/')}': additional properties '{last}' not allowed"
    missing = f"missing property '{last}'"
    assert done.returncode != 0
    assert path in done.stderr or unknown.replace("'/'", "''") in done.stderr or missing in done.stderr, (
        done.stderr
    )


def test_cluster_name_is_required() -> None:
    """Without a name for the cluster the chart says which value is missing, and why it matters."""
    done = template({"clusterName": ""})
    assert done.returncode != 0
    assert "clusterName is required: it is the Region of every key ARN" in done.stderr


def test_kube_system_is_no_home() -> None:
    """Key records must not lie in a namespace whose Secrets others read."""
    done = template(namespace="kube-system")
    assert done.returncode != 0
    assert "namespace of its own" in done.stderr


def _objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if schema.get("type") == "object" and path != "/properties/global":
        yield path, schema
    for key, value in schema.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _objects(item, f"{path}/{key}")


def test_no_object_of_the_schema_takes_unknown_keys() -> None:
    """A misspelt value is refused everywhere but in objects that the API server checks."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_objects = {path for path, item in _objects(schema) if "additionalProperties" not in item}
    assert open_objects == {
        "/definitions/affinity/properties/nodeAffinity",
        "/definitions/affinity/properties/podAffinity",
        "/definitions/affinity/properties/podAntiAffinity",
        "/definitions/extraEnv/items/properties/valueFrom",
    }


def _leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_every_value_of_the_schema_has_a_default_and_a_comment() -> None:
    """The file of values.yaml shows each value there is, with a comment right above it."""
    text = (CHART / "values.yaml").read_text()
    lines = text.splitlines()
    documented = {
        line.split(":")[0].strip()
        for above, line in itertools.pairwise(lines)
        if above.strip().startswith("#")
    }
    settings = {
        path for path in _leaves(yaml.safe_load(text)) if "peers" not in path and "resources" not in path
    }
    assert {path[-1] for path in settings} <= documented

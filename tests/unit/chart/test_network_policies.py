"""Who may talk to the three processes, and to whom they may talk; everything else is denied."""

from typing import Any

import pytest

from chart_rendering import PROCESSES, Manifest, find, render, selected_by

API_SERVER_AND_DNS = {("TCP", 443), ("TCP", 6443), ("UDP", 53), ("TCP", 53)}


def _policy(manifests: list[Manifest], process: str) -> dict[str, Any]:
    spec = find(manifests, "NetworkPolicy", f"datakeys-{process}")["spec"]
    assert isinstance(spec, dict)
    return spec


def _ports(rules: list[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(port["protocol"], port["port"]) for rule in rules for port in rule["ports"]}


def _peers(rules: list[dict[str, Any]], direction: str, port: int) -> Any:
    (rule,) = [rule for rule in rules if any(item["port"] == port for item in rule["ports"])]
    return rule.get(direction)


@pytest.mark.parametrize("process", PROCESSES)
def test_everything_unlisted_is_denied(manifests: list[Manifest], process: str) -> None:
    """Each policy covers both directions for exactly its own process, and every rule names ports."""
    spec = _policy(manifests, process)
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert list(selected_by(spec["podSelector"]["matchLabels"], manifests)) == [f"datakeys-{process}"]
    assert all(rule["ports"] for rule in [*spec["ingress"], *spec["egress"]])


@pytest.mark.parametrize(
    ("process", "ports"),
    [
        ("controller", {("TCP", 9443)}),
        ("webhook", {("TCP", 8443), ("TCP", 9443)}),
        ("keyservice", {("TCP", 8443), ("TCP", 9443)}),
    ],
)
def test_only_served_ports_are_open(
    manifests: list[Manifest], process: str, ports: set[tuple[str, int]]
) -> None:
    """Nothing but the TLS port and the health port can be reached."""
    assert _ports(_policy(manifests, process)["ingress"]) == ports


def test_key_service_serves_sidecars_of_all_namespaces(manifests: list[Manifest]) -> None:
    """Any pod of any namespace reaches the key service; nothing outside the cluster does."""
    assert _peers(_policy(manifests, "keyservice")["ingress"], "from", 8443) == [{"namespaceSelector": {}}]


@pytest.mark.parametrize("process", ["webhook", "keyservice"])
def test_egress_is_the_api_server_and_dns(manifests: list[Manifest], process: str) -> None:
    """Webhook and key service call nobody but the API server and DNS."""
    assert _ports(_policy(manifests, process)["egress"]) == API_SERVER_AND_DNS


def test_controller_also_calls_the_key_service(manifests: list[Manifest]) -> None:
    """The controller's one other destination is the key service's pods in its own namespace."""
    egress = _policy(manifests, "controller")["egress"]
    (peer,) = _peers(egress, "to", 8443)
    assert _ports(egress) == API_SERVER_AND_DNS | {("TCP", 8443)}
    assert set(peer) == {"podSelector"}
    assert list(selected_by(peer["podSelector"]["matchLabels"], manifests)) == ["datakeys-keyservice"]


@pytest.mark.parametrize("process", PROCESSES)
def test_dns_is_no_way_out(manifests: list[Manifest], process: str) -> None:
    """Port 53 is open to the cluster's DNS only, not to any address."""
    peers = _peers(_policy(manifests, process)["egress"], "to", 53)
    assert peers == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}},
        {"ipBlock": {"cidr": "169.254.20.10/32"}},
    ]


def test_api_server_and_scrapers_can_be_narrowed() -> None:
    """Peers given by values replace "any address" in each rule they are meant for."""
    api_server = [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    scraper = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    manifests = render(
        {
            "networkPolicy.apiServer": {"peers": api_server, "ports": [8888]},
            "networkPolicy.metrics.peers": scraper,
            "networkPolicy.dns": {"peers": [], "ports": [5353]},
        }
    )
    for process in PROCESSES:
        spec = _policy(manifests, process)
        assert _peers(spec["egress"], "to", 8888) == api_server
        assert _peers(spec["egress"], "to", 5353) is None
        assert _peers(spec["ingress"], "from", 9443) == scraper
    assert _peers(_policy(manifests, "webhook")["ingress"], "from", 8443) == api_server

"""Lifetimes of certificates, and cert-manager in place of the key service for the webhook's."""

from typing import Any

import pytest

from chart_rendering import SYSTEM_NAMESPACE, Manifest, environment_of, find, of_kind, render, template
from datakeys.keyservice.pki.authority import Lifetimes
from datakeys.keyservice.pki.certificates import WEBHOOK_TLS_SECRET, build_dns_names

CERT_MANAGER = {"certificates.webhook.certManager": {"enabled": True, "issuerRef": {"name": "corporate"}}}
HOUR = 3600


@pytest.fixture(scope="module")
def managed() -> list[Manifest]:
    """Return an installation whose webhook certificate is cert-manager's."""
    return render(CERT_MANAGER)


def test_default_lifetimes_are_those_of_the_process(manifests: list[Manifest]) -> None:
    """The chart and the code say the same."""
    environment = environment_of(manifests, "keyservice")
    usual = Lifetimes()
    names = ("DATAKEYS_CA_SECONDS", "DATAKEYS_LEAF_SECONDS", "DATAKEYS_CA_OVERLAP_SECONDS")
    assert [float(environment[name]) for name in names] == [usual.ca, usual.leaf, usual.overlap]
    assert environment["DATAKEYS_WEBHOOK_CERTIFICATE"] == "true"
    assert environment_of(manifests, "webhook")["DATAKEYS_MANAGE_CA_BUNDLE"] == "true"


def test_lifetimes_can_be_set() -> None:
    """In hours."""
    manifests = render(
        {"certificates.caHours": 600, "certificates.leafHours": 24, "certificates.overlapHours": 2}
    )
    environment = environment_of(manifests, "keyservice")
    assert environment["DATAKEYS_CA_SECONDS"] == str(600 * HOUR)
    assert environment["DATAKEYS_LEAF_SECONDS"] == str(24 * HOUR)
    assert environment["DATAKEYS_CA_OVERLAP_SECONDS"] == str(2 * HOUR)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"certificates.caHours": 6000}, "at least 3 times leafHours"),
        ({"certificates.overlapHours": 20000}, "6 times overlapHours"),
        ({"certificates.leafHours": 0}, "leafHours"),
        ({"certificates.webhook.certManager.enabled": True}, "issuerRef.name is required"),
    ],
)
def test_values_that_would_break_a_rotation_are_refused(values: dict[str, Any], word: str) -> None:
    """Before anything is installed, and with the value's name."""
    done = template(values)
    assert done.returncode != 0
    assert word in done.stderr


def test_cert_manager_is_not_needed(manifests: list[Manifest]) -> None:
    """By default nothing of it is rendered."""
    assert not list(of_kind(manifests, "Certificate"))
    assert (
        "annotations" not in find(manifests, "MutatingWebhookConfiguration", "datakeys-webhook")["metadata"]
    )


def test_cert_manager_writes_the_secret_that_the_webhook_mounts(managed: list[Manifest]) -> None:
    """Under the names of the Service, by the issuer that was asked for."""
    spec = find(managed, "Certificate", "datakeys-webhook")["spec"]
    assert spec["secretName"] == WEBHOOK_TLS_SECRET
    assert spec["dnsNames"] == build_dns_names("datakeys-webhook", SYSTEM_NAMESPACE)
    assert spec["issuerRef"] == {"name": "corporate", "kind": "Issuer", "group": "cert-manager.io"}
    assert (spec["duration"], spec["renewBefore"]) == ("2160h", "43200m")


def test_nobody_fights_with_cert_manager(managed: list[Manifest]) -> None:
    """It sets caBundle; the webhook may only read it, and the key service leaves the Secret alone."""
    configuration = find(managed, "MutatingWebhookConfiguration", "datakeys-webhook")
    assert configuration["metadata"]["annotations"] == {
        "cert-manager.io/inject-ca-from": f"{SYSTEM_NAMESPACE}/datakeys-webhook"
    }
    assert environment_of(managed, "keyservice")["DATAKEYS_WEBHOOK_CERTIFICATE"] == "false"
    assert environment_of(managed, "webhook")["DATAKEYS_MANAGE_CA_BUNDLE"] == "false"
    (rule,) = [
        rule
        for rule in find(managed, "ClusterRole", "datakeys-webhook")["rules"]
        if rule["apiGroups"] == ["admissionregistration.k8s.io"]
    ]
    assert rule["verbs"] == ["get"]

"""The webhook's certificate from cert-manager: the chart and both processes on a real API server.

cert-manager itself isn't there: the test makes its CRD, writes the files that it would write, and sets
caBundle as its cainjector does.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from certificate_stage import WEBHOOK, Stage, connect, mount
from chart_installation import refusal
from controller_rig import running_rig
from datakeys.keyservice.pki.authority import Generation, Lifetimes, build_generation, build_leaf
from datakeys.keyservice.pki.certificates import WEBHOOK_TLS_SECRET, build_dns_names
from in_force import wait_in_force
from ports import find_free_port
from waiting import eventually, wait_for
from webhook_rig import find_own_address

VALUES = {"certificates.webhook.certManager": {"enabled": True, "issuerRef": {"name": "corporate"}}}
GROUP, PLURAL = "cert-manager.io", "certificates"


@pytest.fixture
def certificate_kind(api_client: client.ApiClient) -> Iterator[None]:
    """Make the kind Certificate, of any content."""
    names = {"kind": "Certificate", "plural": PLURAL, "singular": "certificate"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    body: Any = {
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    extensions = client.ApiextensionsV1Api(api_client)
    extensions.create_custom_resource_definition(body)
    yield
    extensions.delete_custom_resource_definition(f"{PLURAL}.{GROUP}")


@pytest.fixture
def stage(
    control_plane: Path, api_client: client.ApiClient, tmp_path: Path, namespace: str, certificate_kind: None
) -> Iterator[Stage]:
    """Install the chart for cert-manager, with a key service that leaves the webhook's Secret alone."""
    del certificate_kind
    with running_rig(control_plane, api_client, tmp_path) as rig:
        wait_for(lambda: _is_served(api_client), "the kind Certificate is served")
        rig.installation.upgrade(VALUES)
        wait_in_force(api_client, rig.installation.namespace)
        rig.start_keyservice(DATAKEYS_WEBHOOK_CERTIFICATE="false")
        yield Stage(rig, namespace)


def _is_served(api: client.ApiClient) -> bool:
    try:
        client.CustomObjectsApi(api).list_cluster_custom_object(GROUP, "v1", PLURAL)
    except ApiException:
        return False
    return True


def issue(stage: Stage, generation: Generation) -> dict[str, bytes]:
    """Return the Secret that cert-manager writes."""
    leaf = build_leaf(generation, build_dns_names(WEBHOOK, stage.system), time.time(), Lifetimes())
    return {
        "tls.crt": leaf.certificate_pem.encode(),
        "tls.key": leaf.key_pem.encode(),
        "ca.crt": generation.certificate_pem.encode(),
    }


def test_webhook_works_with_a_certificate_of_cert_manager(stage: Stage, tmp_path: Path) -> None:
    """It waits for the cainjector, at the start and when the issuer's CA changes; it writes nothing."""
    found: Any = client.CustomObjectsApi(stage.rig.api).get_namespaced_custom_object(
        GROUP, "v1", stage.system, PLURAL, WEBHOOK
    )
    assert found["spec"]["secretName"] == WEBHOOK_TLS_SECRET
    secrets = client.CoreV1Api(stage.rig.api).list_namespaced_secret(stage.system).items
    assert "datakeys-keyservice-tls" in {one.metadata and one.metadata.name for one in secrets}
    assert WEBHOOK_TLS_SECRET not in {one.metadata and one.metadata.name for one in secrets}

    address, port = find_own_address(stage.rig.api.configuration.host), find_free_port()
    stage.lead_to(address, port)
    first, second = (build_generation(time.time(), Lifetimes()) for _ in range(2))
    mount(tmp_path / "tls", issue(stage, first), 1)
    process = stage.rig.start_webhook(address, port, tmp_path / "tls", DATAKEYS_MANAGE_CA_BUNDLE="false")
    assert eventually(lambda: process.answers("/healthz") == 200)
    assert not eventually(lambda: process.answers("/readyz") == 200, 3)
    stage.set_ca_bundle(first.certificate_pem)
    assert eventually(lambda: process.answers("/readyz") == 200), process.log.read_text()
    stage.wait_admitted()
    stage.admit()

    mount(tmp_path / "tls", issue(stage, second), 2)
    assert not eventually(lambda: _serves(stage, (address, port), second), 5)
    stage.admit()
    stage.set_ca_bundle(first.certificate_pem + second.certificate_pem)
    assert eventually(lambda: _serves(stage, (address, port), second))
    stage.wait_admitted()
    stage.set_ca_bundle(second.certificate_pem)
    stage.admit()
    assert process.stop() == 0
    _assert_may_only_read(stage)


def _serves(stage: Stage, target: tuple[str, int], generation: Generation) -> bool:
    try:
        connect(target, f"{WEBHOOK}.{stage.system}.svc", lambda: generation.certificate_pem)
    except OSError:
        return False
    return True


def _assert_may_only_read(stage: Stage) -> None:
    with stage.rig.installation.acting_as(WEBHOOK) as api:
        admission = client.AdmissionregistrationV1Api(api)
        admission.read_mutating_webhook_configuration(WEBHOOK)
        patch: Any = [{"op": "test", "path": "/kind", "value": "x"}]
        assert WEBHOOK in refusal(admission.patch_mutating_webhook_configuration, WEBHOOK, patch)

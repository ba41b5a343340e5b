"""The chart installs, upgrades and rolls back on a real API server."""

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from chart_installation import Installation, installed_chart, named, refusal
from chart_rendering import CHART, PROCESSES, RELEASE, deployment_of, render, run_helm, set_options
from in_force import Asked, wait_asked

NAME = "datakeys-webhook"


@pytest.fixture
def installation(control_plane: Path) -> Iterator[Installation]:
    with installed_chart(control_plane) as installation:
        yield installation


def _rotate(api: client.ApiClient, folder: Path) -> str:
    """Do what the webhook process does when its CA changes: patch the caBundle of its registration."""
    certificate = folder / "ca.crt"
    key_options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null"]
    subprocess.run(
        ["openssl", "req", "-x509", *key_options, "-subj", "/CN=ca", "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    bundle = base64.b64encode(certificate.read_bytes()).decode()
    admission = client.AdmissionregistrationV1Api(api)
    present: Any = admission.read_mutating_webhook_configuration(NAME)
    patch: Any = [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
        for index in range(len(present.webhooks))
    ]
    admission.patch_mutating_webhook_configuration(NAME, patch, field_manager=NAME)
    return bundle


def _present(api: client.ApiClient) -> tuple[str, int]:
    """Return caBundle and timeout, which must be the same for all webhooks."""
    configuration: Any = client.AdmissionregistrationV1Api(api).read_mutating_webhook_configuration(NAME)
    ((bundle, timeout),) = {
        (webhook.client_config.ca_bundle, webhook.timeout_seconds) for webhook in configuration.webhooks
    }
    return bundle, timeout


@pytest.mark.parametrize("server_side", ["true", "false"])
def test_certificate_authority_survives_upgrade_and_rollback(
    installation: Installation, api_client: client.ApiClient, tmp_path: Path, server_side: str
) -> None:
    """The caBundle that the webhook has set stays, also one newer than the revision rolled back to."""
    option = f"--server-side={server_side}"
    _rotate(api_client, tmp_path)
    installation.upgrade({"webhook.timeoutSeconds": 9}, option)
    bundle = _rotate(api_client, tmp_path)
    installation.upgrade({"webhook.timeoutSeconds": 8}, option)
    assert _present(api_client) == (bundle, 8)
    bundle = _rotate(api_client, tmp_path)
    installation.helm("rollback", RELEASE, "2", option)
    assert _present(api_client) == (bundle, 9)


@pytest.mark.parametrize("process", PROCESSES)
def test_restricted_namespace_admits_the_pods(
    installation: Installation, api_client: client.ApiClient, process: str
) -> None:
    """With the restricted standard enforced the API server accepts the pods of each process."""
    template = deployment_of(render(), process)["spec"]["template"]
    pod: Any = {**named("pod", labels=template["metadata"]["labels"]), "spec": template["spec"]}
    core = client.CoreV1Api(api_client)
    assert core.create_namespaced_pod(installation.namespace, pod, dry_run="All")
    del template["spec"]["securityContext"]["seccompProfile"]
    assert "violates PodSecurity" in refusal(
        core.create_namespaced_pod, installation.namespace, pod, dry_run="All"
    )


def test_second_release_is_refused(installation: Installation) -> None:
    """The message says where the present release is."""
    arguments = ["install", "second", str(CHART), "--namespace", "default", *set_options({})]
    done = run_helm(*arguments, kubeconfig=installation.kubeconfig)
    assert done.returncode != 0
    where = f'already installed as release "{RELEASE}" in namespace "{installation.namespace}"'
    assert where in done.stderr


def test_another_cluster_name_is_refused(installation: Installation) -> None:
    """An upgrade that would make every data key unreadable doesn't begin; one with the same name does."""
    arguments = ["upgrade", RELEASE, str(CHART), "--namespace", installation.namespace]
    done = run_helm(*arguments, *set_options({"clusterName": "another"}), kubeconfig=installation.kubeconfig)
    assert done.returncode != 0
    assert 'can\'t become "another"' in done.stderr
    installation.upgrade({"logLevel": "DEBUG"})


@pytest.mark.usefixtures("installation")
def test_labelled_pod_is_refused_while_the_webhook_is_down(
    api_client: client.ApiClient, namespace: str
) -> None:
    """The webhook fails closed: no labelled pod starts without it, and others aren't held up."""
    core = client.CoreV1Api(api_client)
    core.create_namespaced_service_account(namespace, named("app"))
    wait_asked(api_client, Asked.REFUSED)
    spec = {"serviceAccountName": "app", "containers": [{"name": "app", "image": "app"}]}
    plain: Any = {**named("plain"), "spec": spec}
    labelled: Any = {**named("labelled", labels={"datakeys.dev/inject": "true"}), "spec": spec}
    with pytest.raises(client.ApiException, match="failed calling webhook"):
        core.create_namespaced_pod(namespace, labelled)
    assert core.create_namespaced_pod(namespace, plain)


def test_removal_keeps_keys_and_definitions(installation: Installation, api_client: client.ApiClient) -> None:
    """Helm uninstall deletes neither the CRDs, nor the Secrets that the key service has made."""
    core = client.CoreV1Api(api_client)
    core.create_namespaced_secret(installation.namespace, named("datakeys-root-key"))
    installation.helm("uninstall", RELEASE)
    assert core.read_namespaced_secret("datakeys-root-key", installation.namespace)
    crds: Any = client.ApiextensionsV1Api(api_client).list_custom_resource_definition()
    assert {crd.metadata.name for crd in crds.items} >= {path.stem for path in (CHART / "crds").iterdir()}

"""Every pod of the chart meets the Pod Security Standard "restricted", and a little more.

Source: Kubernetes "Pod Security Standards", profile Restricted (with all of Baseline).
"""

from collections.abc import Iterator
from typing import Any

import pytest

from chart_rendering import PROCESSES, Manifest, find

RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


@pytest.fixture(params=PROCESSES)
def pod(request: pytest.FixtureRequest, manifests: list[Manifest]) -> dict[str, Any]:
    spec = find(manifests, "Deployment", f"datakeys-{request.param}")["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(field, [])


def test_host_is_out_of_reach(pod: dict[str, Any]) -> None:
    """No host namespace, host port or host path."""
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in _containers(pod):
        assert not any("hostPort" in port for port in container["ports"])


def test_volumes_are_of_allowed_types(pod: dict[str, Any]) -> None:
    """Only the volume types of the restricted profile are used."""
    types = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert types <= RESTRICTED_VOLUMES


def test_pod_runs_as_an_ordinary_user(pod: dict[str, Any]) -> None:
    """The user is 65532, declared non-root, and no container says otherwise."""
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 65532
    for container in _containers(pod):
        assert not {"runAsUser", "runAsGroup", "runAsNonRoot"} & set(container["securityContext"])


def test_seccomp_is_the_runtimes_default(pod: dict[str, Any]) -> None:
    """System calls are filtered, and no container says otherwise."""
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any("seccompProfile" in container["securityContext"] for container in _containers(pod))


def test_containers_have_no_privilege_to_gain(pod: dict[str, Any]) -> None:
    """No capability, no escalation, no privileged mode, no unmasked /proc."""
    for container in _containers(pod):
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["privileged"] is False
        assert "procMount" not in context


def test_no_other_knob_of_the_profile_is_touched(pod: dict[str, Any]) -> None:
    """SELinux, AppArmor and sysctls are left to the cluster."""
    contexts = [pod["securityContext"], *(container["securityContext"] for container in _containers(pod))]
    for context in contexts:
        assert not {"seLinuxOptions", "appArmorProfile", "sysctls", "windowsOptions"} & set(context)


def test_root_file_system_is_read_only(pod: dict[str, Any]) -> None:
    """The only writable folder is /tmp, which is memory with a limit."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in _containers(pod):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        writable = [mount for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert [mount["mountPath"] for mount in writable] == ["/tmp"]  # noqa: S108 - the container's own
        assert volumes[writable[0]["name"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Mi"}


def test_service_links_do_not_reach_the_settings(pod: dict[str, Any]) -> None:
    """Variables such as DATAKEYS_KEYSERVICE_PORT, which Services would add, are switched off."""
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("process", PROCESSES)
def test_service_account_token_is_mounted_by_the_pod_alone(manifests: list[Manifest], process: str) -> None:
    """The ServiceAccount doesn't hand out its token; the pod asks for it."""
    account = find(manifests, "ServiceAccount", f"datakeys-{process}")
    pod = find(manifests, "Deployment", f"datakeys-{process}")["spec"]["template"]["spec"]
    assert account["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == f"datakeys-{process}"

"""Installs the chart on a real API server, and speaks to that server as one of its ServiceAccounts.

Zone: tests.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from chart_rendering import CHART, RELEASE, run_helm, set_options
from datakeys.contract.identity import service_account_principal
from in_force import wait_in_force

ROLE: Final = "datakeys-controller-namespaced"
CONTROLLER: Final = "datakeys-controller"


@dataclass(frozen=True)
class Installation:
    """A release of the chart in a namespace of its own."""

    kubeconfig: Path
    namespace: str

    def helm(self, *arguments: str) -> str:
        """Run helm in the system namespace and return its output; it must succeed."""
        done = run_helm(*arguments, "--namespace", self.namespace, kubeconfig=self.kubeconfig)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def upgrade(self, values: Mapping[str, Any], *options: str) -> None:
        """Upgrade the release to these values."""
        self.helm("upgrade", RELEASE, str(CHART), *options, *set_options(values))

    @contextmanager
    def acting_as(self, account: str) -> Iterator[client.ApiClient]:
        """Yield a client that impersonates a ServiceAccount of the system namespace."""
        with impersonating(self.kubeconfig, service_account_principal(self.namespace, account)) as api:
            yield api

    def subject(self, account: str = CONTROLLER) -> dict[str, str]:
        """Return a ServiceAccount of the system namespace as the subject of a RoleBinding."""
        return {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}

    def role_binding(
        self,
        *,
        name: str = CONTROLLER,
        role_kind: str = "ClusterRole",
        role: str = ROLE,
        subjects: list[dict[str, str]] | None = None,
    ) -> Any:
        """Return the RoleBinding that the controller makes in a namespace, or a variation of it."""
        return {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
            "subjects": [self.subject()] if subjects is None else subjects,
        }


@contextmanager
def installed_chart(kubeconfig: Path, values: Mapping[str, Any] | None = None) -> Iterator[Installation]:
    """Install the chart in a new namespace, and remove both in the end.

    The namespace enforces the restricted Pod Security Standard. Yields once roles and policies are in force.
    """
    installation = Installation(kubeconfig, f"datakey-system-{uuid.uuid4().hex[:6]}")
    with impersonating(kubeconfig) as api:
        core = client.CoreV1Api(api)
        core.create_namespace(
            named(installation.namespace, labels={"pod-security.kubernetes.io/enforce": "restricted"})
        )
        try:
            installation.helm("install", RELEASE, str(CHART), *set_options(values or {}))
            wait_in_force(api, installation.namespace)
            yield installation
        finally:
            run_helm("uninstall", RELEASE, "--namespace", installation.namespace, kubeconfig=kubeconfig)
            core.delete_namespace(installation.namespace)


@contextmanager
def impersonating(kubeconfig: Path, user: str | None = None) -> Iterator[client.ApiClient]:
    """Yield a client of the administrator, or of a user that the administrator impersonates.

    The groups of a ServiceAccount are added by the API server.
    """
    with config.new_client_from_config(str(kubeconfig)) as api:  # type: ignore[no-untyped-call]
        assert isinstance(api, client.ApiClient)
        if user:
            api.default_headers["Impersonate-User"] = user
        yield api


def named(name: str, **metadata: Any) -> Any:
    """Return an object that has metadata only."""
    return {"metadata": {"name": name, **metadata}}


def refusal(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    """Return the message with which the API server forbids a call; it must forbid it."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        if error.status != 403:
            raise
        return str(error.body)
    raise AssertionError("the API server allowed it")

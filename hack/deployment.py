"""Bring a cluster up and install the project on it, the way a user would: own images, Helm, kubectl.

Used by the demo and by the node e2e tier, so that both show the same thing.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
SYSTEM_NAMESPACE: Final = "datakey-system"
CHART: Final = ROOT / "charts" / "datakey-operator"


def run_testcluster(*arguments: str, capture: bool = False) -> str:
    """Run ``python -m testcluster``; progress goes to the terminal.

    Raises:
        subprocess.CalledProcessError: It failed; it has said why.
    """
    done = subprocess.run(
        [sys.executable, "-m", "testcluster", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "hack")},
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=True,
    )
    return (done.stdout or "").strip()


def cluster_path(name: str, what: str) -> Path:
    """Return a path of a cluster: kubeconfig, etcd-data, logs or bin."""
    return Path(run_testcluster("path", what, "--name", name, capture=True).splitlines()[-1])


@dataclass(frozen=True)
class Cluster:
    """A running cluster and the tools to talk to it."""

    name: str
    kubeconfig: Path
    bin: Path

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return its standard output; its errors go to the caller's terminal.

        Raises:
            subprocess.CalledProcessError: kubectl failed and ``check`` is set.
        """
        return self.run("kubectl", *arguments, stdin=stdin, check=check)

    def run(self, tool: str, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a tool of the cluster's binaries and return its standard output."""
        done = subprocess.run(
            [self.bin / tool, *arguments],
            cwd=ROOT,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=None if check else subprocess.STDOUT,
            text=True,
            check=check,
        )
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what ``kubectl get -o json`` answers."""
        answer = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        assert isinstance(answer, dict)  # noqa: S101 - narrows the type for the checker
        return answer

    def read_file(self, namespace: str, pod: str, container: str, path: str) -> bytes:
        """Return a file of a container, raw, through exec."""
        done = subprocess.run(
            [self.bin / "kubectl", "exec", "-n", namespace, pod, "-c", container, "--", "cat", path],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            stdout=subprocess.PIPE,
            check=True,
        )
        return done.stdout

    def wait(self, what: str, condition: str, namespace: str, seconds: int = 300) -> None:
        """Wait for a condition of an object, as ``kubectl wait`` does."""
        self.kubectl("wait", f"--for={condition}", what, "-n", namespace, f"--timeout={seconds}s")


def start_cluster(name: str) -> Cluster:
    """Build what is missing, start a whole cluster, build the project's images and load them."""
    run_testcluster("packages")
    run_testcluster("build")
    run_testcluster("up", "--name", name)
    run_testcluster("load", "--name", name, "--tag", "dev")
    return attach(name)


def attach(name: str) -> Cluster:
    """Return a cluster that already runs."""
    return Cluster(name, cluster_path(name, "kubeconfig"), cluster_path(name, "bin"))


def install_chart(cluster: Cluster, *sets: str) -> None:
    """Install or upgrade the chart with Helm and wait until all of it answers."""
    apply_system_namespace(cluster)
    installed = cluster.kubectl("get", "deployments", "-n", SYSTEM_NAMESPACE, "-o", "name").split()
    cluster.run(
        "helm",
        "upgrade",
        "--install",
        "datakeys",
        str(CHART),
        f"--namespace={SYSTEM_NAMESPACE}",
        "--set=image.tag=dev",
        f"--set=clusterName={cluster.name}",
        *[f"--set={item}" for item in sets],
        "--wait",
        "--timeout=10m",
    )
    # The images keep their tag when they are built anew, so that running pods must be replaced.
    for deployment in installed:
        cluster.kubectl("rollout", "restart", deployment, "-n", SYSTEM_NAMESPACE)
    for deployment in installed:
        wait_for_rollout(cluster, deployment, SYSTEM_NAMESPACE)
    wait_for_webhook(cluster)


def wait_for_rollout(cluster: Cluster, workload: str, namespace: str) -> None:
    """Wait until all pods of a Deployment or StatefulSet are those that it asks for, and ready."""
    cluster.kubectl("rollout", "status", workload, "-n", namespace, "--timeout=600s")


def wait_for_webhook(cluster: Cluster) -> None:
    """Wait until the API server reaches the webhook: its Service lags behind its pods' readiness."""
    wait_until("the API server reaches the webhook", 300, lambda: _reaches_webhook(cluster))


def _reaches_webhook(cluster: Cluster) -> bool:
    """Return whether the webhook has answered, about a pod that it refuses."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": "default", "labels": {"datakeys.dev/inject": "true"}},
        "spec": {"containers": [{"name": "app", "image": "none"}]},
    }
    answer = cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)
    return "denied the request" in answer


def apply_system_namespace(cluster: Cluster) -> None:
    """Make the system namespace, in which Pod Security ``restricted`` is enforced."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": SYSTEM_NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))


def wait_until(what: str, seconds: float, probe: Any, interval: float = 0.5) -> Any:  # noqa: ANN401
    """Call ``probe`` until it returns something true, and return that.

    Raises:
        TimeoutError: It didn't within ``seconds``; the text names ``what`` and the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s; last answer {answer!r}")
        time.sleep(interval)

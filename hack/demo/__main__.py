"""Entry point: ``python -m demo up`` and ``python -m demo down``."""

import argparse
import subprocess
import sys

from demo import show, terminal
from deployment import Cluster, install_chart, run_testcluster, start_cluster

NAME = "demo"


def main() -> int:
    """Run the demo or remove its cluster; return the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("verb", choices=["up", "down"])
    if parser.parse_args().verb == "down":
        run_testcluster("down", "--name", NAME)
        return 0
    try:
        run()
    except subprocess.CalledProcessError as failed:
        terminal.fail(f"{failed.cmd[0]} failed with exit status {failed.returncode}")
        return 1
    except (TimeoutError, show.UnexpectedError) as failed:
        terminal.fail(str(failed))
        return 1
    return 0


def run() -> None:
    """Start everything and show it, step by step."""
    terminal.step(1, "a real cluster with the project's own images")
    cluster = start_cluster(NAME)
    terminal.step(2, "install the chart with Helm")
    install_chart(cluster)
    terminal.show(cluster.kubectl("get", "pods", "-n", "datakey-system", "-o", "wide"))
    terminal.step(3, "kubectl apply -f examples/quickstart.yaml")
    terminal.show(cluster.kubectl("apply", "-f", "examples/quickstart.yaml"))
    show.wait_for_quickstart(cluster)
    terminal.step(4, "the encrypted data key: in the request's status and in a Secret")
    show.show_encrypted_data_key(cluster)
    terminal.step(5, "the app container reads the plaintext and uses it")
    show.show_app(cluster)
    terminal.step(6, "another ServiceAccount with the same Secret mounted is refused")
    show.show_intruder(cluster)
    terminal.step(7, "annotate and forget: kubectl apply -f examples/annotated.yaml")
    terminal.show(cluster.kubectl("apply", "-f", "examples/annotated.yaml"))
    show.show_annotated(cluster)
    terminal.step(8, "kubectl kms: why a pod has its data key, and a rotation under which no data is lost")
    show.show_plugin(cluster)
    terminal.step(9, "the plaintext is nowhere else: etcd, Secrets, Events, statuses, logs")
    show.show_scan(cluster)
    _say_goodbye(cluster)


def _say_goodbye(cluster: Cluster) -> None:
    terminal.done(
        f"""The cluster stays up. Try next:
  export KUBECONFIG={cluster.kubeconfig}
  export PATH={cluster.bin}:$PATH
  kubectl get datakeys -n shop                         # all objects of this operator
  kubectl explain datakeyrequest.spec
  kubectl patch kmskey orders -n shop --type merge -p '{{"spec":{{"enabled":false}}}}'
  kubectl delete pod -n shop -l app=orders             # the new pod waits: the key is disabled
  kubectl patch kmskey orders -n shop --type merge -p '{{"spec":{{"enabled":true}}}}'
  kubectl delete secret orders-at-rest -n shop         # comes back with the same ciphertext
Remove it with: make demo-down"""
    )


if __name__ == "__main__":
    sys.exit(main())

"""Kubernetes' own controllers beside an API server that has none. Zone: tests."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testcluster.binaries import path_of
from testcluster.recipes import CONTROLLER_MANAGER


@contextmanager
def running_controllers(
    kubeconfig: Path, folder: Path, *names: str, options: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run some controllers and none of the others, as the administrator unless the options say otherwise."""
    command = [
        str(path_of(CONTROLLER_MANAGER)),
        f"--kubeconfig={kubeconfig}",
        f"--controllers={','.join(names)}",
        # So that they don't fall behind tests that leave them much to do.
        "--kube-api-qps=500",
        "--kube-api-burst=500",
        "--leader-elect=false",
        "--secure-port=0",
        *options,
    ]
    with (folder / "controllers.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()

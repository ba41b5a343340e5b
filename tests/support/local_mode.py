"""The local mode as a real process.

Zone: tests.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

OPERATOR = Path(__file__).parents[2] / "operator"
#: For what comes by itself, on the slowest machine.
PATIENCE_SECONDS = 60


@dataclass
class LocalProcess:
    """A running local mode."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    #: CPU time until it was ready: another process at work doesn't make it longer.
    ready_cpu_seconds: float

    @property
    def endpoint(self) -> str:
        """Return its URL."""
        return str(self.ready["endpoint"])

    def client(
        self,
        region: str = "us-east-1",
        access_key_id: str = "AKIDANY",
        secret_access_key: str = "any",  # noqa: S107
        **more: Any,
    ) -> Any:
        """Return a boto3 client that doesn't retry."""
        return boto3.client(
            "kms",
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
            config=Config(
                retries={"total_max_attempts": 1},
                parameter_validation=False,
                connect_timeout=PATIENCE_SECONDS,
                read_timeout=PATIENCE_SECONDS,
            ),
            **more,
        )

    def stop(self) -> int:
        """End it by SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)


def _read_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Starter = Callable[..., LocalProcess]


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the local mode with more arguments."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(OPERATOR)}
    return subprocess.Popen(
        [sys.executable, "-m", "datakeys.keyservice", "--local", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@contextlib.contextmanager
def running_processes() -> Iterator[Starter]:
    """Give a function that starts the local mode on a free port and waits until it is ready."""
    processes: list[subprocess.Popen[str]] = []

    def start_ready(*arguments: object) -> LocalProcess:
        process = start("--listen", "127.0.0.1:0", *arguments)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
            raise AssertionError(f"the local mode ended: {errors}")
        return LocalProcess(process, json.loads(line), _read_cpu_seconds(process.pid))

    try:
        yield start_ready
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

"""The program ``datakeys-sidecar`` as a container starts it: its first line, its commands, its signals."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from process_memory import find_children

from .conftest import PATIENCE_SECONDS, PROGRAM, Pod, wait_until


def _start(pod: Pod, *prefix: str, arguments: tuple[str, ...] = ("run",)) -> "subprocess.Popen[bytes]":
    return pod.start([*prefix, str(PROGRAM), *arguments], env={"PATH": os.environ["PATH"]})


def _is_python(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"python3\0-ISB\0")


def test_program_delivers(pod: Pod) -> None:
    """The file itself is the program: executable, with no ``python`` before it."""
    pod.add_secret("orders", b"k" * 32)
    process = _start(pod)
    wait_until((pod.keys / "orders").exists)
    assert _start(pod, arguments=("probe",)).wait(PATIENCE_SECONDS) == 0
    assert json.loads(pod.stop(process).splitlines()[-1])["event"] == "stopped"


@pytest.mark.parametrize("milliseconds", [2, 5, 10, 20, 40])
def test_signal_during_the_start_is_kept(pod: Pod, milliseconds: int) -> None:
    """A SIGTERM that comes before there is a handler waits for it: an orderly end, not the default one."""
    process = _start(pod)
    wait_until(lambda: _is_python(process.pid))
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGTERM)
    output = pod.read_output(process)
    assert process.returncode == 0
    assert json.loads(output.splitlines()[-1])["event"] == "stopped"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="makes a PID namespace")
@pytest.mark.parametrize("milliseconds", [2, 5, 10, 20])
def test_process_1_ends_on_a_signal_during_its_start(pod: Pod, milliseconds: int) -> None:
    """The kernel drops signals for process 1 that have no handler; these are blocked, so they aren't lost."""
    launcher = _start(pod, "unshare", "--pid", "--fork", "--kill-child")
    wait_until(lambda: any(_is_python(child) for child in find_children(launcher.pid)))
    time.sleep(milliseconds / 1000)
    [child] = find_children(launcher.pid)
    os.kill(child, signal.SIGTERM)
    output = pod.read_output(launcher)
    assert launcher.returncode == 0
    assert json.loads(output.splitlines()[-1])["event"] == "stopped"


def test_children_take_signals(pod: Pod) -> None:
    """What the program starts has no signal blocked."""
    pod.add_secret("orders", b"k" * 32)
    with pod.service.holding():
        process = _start(pod)
        wait_until(lambda: bool(pod.service.calls))
        [child] = find_children(process.pid)
        for pid in (process.pid, child):
            status = Path(f"/proc/{pid}/status").read_text()
            assert "SigBlk:\t0000000000000000" in status
    pod.stop(process)

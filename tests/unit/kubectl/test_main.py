"""The program as a whole: exit status, errors in one line, no terminal needed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datakeys.kubectl.arguments import build_kubectl_flags, parse_arguments
from datakeys.kubectl.paths import DATAKEYS, build_path
from deployment import wait_until
from kubectl_objects import FakeKubectl, build_key

OPERATOR = Path(__file__).parents[3] / "operator"


def run(path: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program with kubectl from a folder, or without one."""
    return subprocess.run(
        [sys.executable, "-m", "datakeys.kubectl", *words],
        env={"PATH": path, "PYTHONPATH": str(OPERATOR)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def path(kubectl: FakeKubectl) -> str:
    """Return the folder of the kubectl that answers, as PATH."""
    return str(Path(kubectl.program).parent)


def test_wrong_usage_is_status_2(path: str) -> None:
    """With the usage of the command."""
    for words in ((), ("unknown",), ("rotate",), ("explain", "node", "a"), ("who-can", "fly", "main")):
        done = run(path, *words)
        assert done.returncode == 2, words
        assert "kubectl kms" in done.stderr


def test_no_answer_is_status_3_and_one_line_with_the_next_step(path: str, kubectl: FakeKubectl) -> None:
    """Missing, forbidden, unreachable: each has its own way out."""
    keys = build_path(DATAKEYS, "kmskeys", "shop") + "?limit=500"
    causes = {
        "Error from server (NotFound): the server could not find the requested resource": "get crd",
        "Error from server (Forbidden): kmskeys is forbidden": "role view",
        "The connection to the server 10.0.0.1:6443 was refused": "kubectl get namespaces",
        "Error: You must be logged in to the server (Unauthorized)": "log in again",
    }
    for text, step in causes.items():
        kubectl.answer(keys, text)
        done = run(path, "keys", "-n", "shop")
        assert done.returncode == 3, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("kubectl kms: ")
        assert step in done.stderr
        assert done.stdout == ""


def test_missing_kubectl_is_no_traceback(tmp_path: Path) -> None:
    """The plugin is nothing without it."""
    done = run(str(tmp_path), "keys")
    assert done.returncode == 2
    assert "kubectl can't be run" in done.stderr


def test_flags_may_stand_before_and_after_the_command(path: str, kubectl: FakeKubectl) -> None:
    """As people type them."""
    for plural in ("kmskeys", "kmsaliases", "datakeyrequests"):
        kubectl.answer_list(build_path(DATAKEYS, plural, "shop"), build_key())
    before = run(path, "-n", "shop", "-o", "json", "keys")
    after = run(path, "keys", "-o", "json", "-n", "shop")
    assert before.returncode == after.returncode == 0, before.stderr
    assert before.stdout == after.stdout
    assert before.stdout.startswith("{")


def is_alive(group: int) -> bool:
    """Return whether a process of a group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_interrupted_rotation_says_that_it_goes_on(path: str, kubectl: FakeKubectl) -> None:
    """Ctrl-C ends the showing only, and leaves no kubectl behind."""
    key = build_key(reEncryption={"enabled": True})
    kubectl.answer_list(build_path(DATAKEYS, "kmskeys", "shop"), key)
    kubectl.answer_list(build_path(DATAKEYS, "kmsaliases", "shop"))
    kubectl.answer(build_path(DATAKEYS, "kmskeys", "shop", "main"), key)
    watch = {"watch": "true", "fieldSelector": "metadata.name=main", "resourceVersion": "7"}
    watched = build_path(DATAKEYS, "kmskeys", "shop", **watch, timeoutSeconds="300")
    kubectl.answer(watched, "NEVER")
    with subprocess.Popen(
        [sys.executable, "-m", "datakeys.kubectl", "rotate", "main", "--status", "--wait", "-n", "shop"],
        env={"PATH": path, "PYTHONPATH": str(OPERATOR)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until("it watches", 60, lambda: any(watched in words for words in kubectl.calls))
        os.killpg(process.pid, signal.SIGINT)
        shown, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown == "re-encrypting the data keys\n"
    assert "it goes on in the cluster" in said
    assert "rotate main -n shop --status --wait" in said
    wait_until("no kubectl is left", 60, lambda: not is_alive(process.pid))


def test_user_s_flags_are_handed_to_kubectl() -> None:
    """Only those that were given."""
    words = ["keys", "--context", "c", "--kubeconfig", "k", "--as", "u", "--as-group", "g", "--as-group", "h"]
    assert build_kubectl_flags(parse_arguments(words)) == (
        "--context=c", "--kubeconfig=k", "--as=u", "--as-group=g", "--as-group=h",
    )  # fmt: skip
    assert build_kubectl_flags(parse_arguments(["keys"])) == ()


@pytest.mark.parametrize("command", ["explain", "who-can", "inject", "rotate", "keys", "requests"])
def test_help_has_an_example_and_the_exit_status(command: str) -> None:
    """Of every command."""
    done = run(os.environ["PATH"], command, "--help")
    assert done.returncode == 0
    assert f"kubectl kms {command}" in done.stdout.split("example:")[1]
    assert "exit status:" in done.stdout

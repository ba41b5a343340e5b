"""The sidecar as a process, delivery ``file``."""

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from process_memory import find_children

from .conftest import KEY_ARN, PATIENCE_SECONDS, Pod, find_python, wait_until

PLAINTEXT = bytes(range(32))
#: Less than anything that a sidecar might wait for; it takes some milliseconds where nobody else is at work.
AT_ONCE_SECONDS = 4.0


def test_key_is_delivered_as_private_file(pod: Pod) -> None:
    """The app finds the raw bytes, readable by its user only; nothing else is left in the volume."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run()
    target = pod.keys / "orders"
    wait_until(target.exists)
    assert target.read_bytes() == PLAINTEXT
    assert stat.S_IMODE(target.stat().st_mode) == 0o400
    assert os.listdir(pod.keys) == ["orders"]  # noqa: PTH208
    assert pod.probe() == 0
    pod.stop(process)


def test_decrypt_is_asked_as_the_protocol_wants(pod: Pod) -> None:
    """Target, token, context and key ARN are sent; one call, and nothing is asked again afterwards."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run()
    wait_until((pod.keys / "orders").exists)
    time.sleep(0.3)
    pod.stop(process)
    (call,) = pod.service.calls
    assert call["path"] == "/"
    assert call["headers"]["X-Amz-Target"] == "TrentService.Decrypt"
    assert call["headers"]["Content-Type"] == "application/x-amz-json-1.1"
    assert call["headers"]["Authorization"] == "Bearer token-of-the-pod"
    assert call["body"]["KeyId"] == KEY_ARN
    assert call["body"]["EncryptionContext"] == {"datakeys.dev/request": "orders", "purpose": "tést"}


def test_all_keys_come_over_one_connection(pod: Pod) -> None:
    """Several data keys share one child and one handshake."""
    names = ["orders", "invoices", "a.b-c"]
    for name in names:
        pod.add_secret(name, name.encode())
    process = pod.run(env={"DATAKEYS_REQUESTS": ",".join(names)})
    wait_until(lambda: all((pod.keys / name).exists() for name in names))
    assert {name: (pod.keys / name).read_bytes() for name in names} == {n: n.encode() for n in names}
    assert len(pod.service.connections) == 1
    pod.stop(process)


def test_waits_for_files_that_are_not_there(pod: Pod) -> None:
    """No Secret yet: the sidecar waits, says so once, and delivers when it comes."""
    process = pod.run()
    pod.wait_event(process, "waiting")
    time.sleep(0.8)
    assert pod.probe() == 1
    pod.add_secret("orders", PLAINTEXT)
    wait_until((pod.keys / "orders").exists)
    events = [json.loads(line) for line in pod.stop(process).splitlines()]
    assert [event["event"] for event in events] == ["started", "waiting", "delivered", "stopped"]
    assert events[1]["code"] == "MissingInput"
    assert "orders" in events[1]["next"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_removes_the_keys_at_once(pod: Pod, number: int) -> None:
    """On SIGTERM the key is overwritten and removed, and the process ends with status 0."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run()
    wait_until((pod.keys / "orders").exists)
    with (pod.keys / "orders").open("rb") as still_open:
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - started < AT_ONCE_SECONDS
        assert still_open.read() == b""
    assert list(pod.keys.iterdir()) == []


def test_signal_while_a_child_asks_ends_both(pod: Pod) -> None:
    """A SIGTERM in the middle of Decrypt leaves neither a file nor a child."""
    pod.add_secret("orders", PLAINTEXT)
    with pod.service.holding():
        process = pod.run()
        wait_until(lambda: bool(pod.service.calls))
        [child] = find_children(process.pid)
        started = time.monotonic()
        pod.stop(process)
        assert time.monotonic() - started < AT_ONCE_SECONDS
    assert list(pod.keys.iterdir()) == []
    assert not Path(f"/proc/{child}").exists()


def test_restart_after_kill_replaces_the_file(pod: Pod) -> None:
    """A killed sidecar leaves its file to the running app; the next one replaces it, then cleans up."""
    pod.add_secret("orders", PLAINTEXT)
    first = pod.run()
    wait_until((pod.keys / "orders").exists)
    first.kill()
    first.wait()
    inode = (pod.keys / "orders").stat().st_ino
    (pod.keys / ".orders").write_bytes(b"half")
    second = pod.run()
    wait_until(lambda: (pod.keys / "orders").stat().st_ino != inode)
    assert (pod.keys / "orders").read_bytes() == PLAINTEXT
    pod.stop(second)
    assert list(pod.keys.iterdir()) == []


def test_volume_on_a_disk_is_refused(pod: Pod, tmp_path: Path) -> None:
    """Plaintext is never written to anything but a tmpfs."""
    pod.add_secret("orders", PLAINTEXT)
    disk = Path("/proc/self/cwd") if tmp_path.is_relative_to("/dev/shm") else tmp_path  # noqa: S108
    process = pod.run(env={"DATAKEYS_KEYS_DIRECTORY": str(disk)})
    output = pod.read_output(process)
    assert process.returncode == 1
    assert "memory-backed" in json.loads(output)["reason"]
    assert pod.service.calls == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATAKEYS_REQUESTS", ""),
        ("DATAKEYS_REQUESTS", "a,../b"),
        ("DATAKEYS_REQUESTS", "a,a"),
        ("DATAKEYS_DELIVERY", "pigeon"),
        ("DATAKEYS_KEYSERVICE_URL", "http://127.0.0.1"),
    ],
)
def test_bad_settings_are_refused_by_name(pod: Pod, variable: str, value: str) -> None:
    """A bad variable ends the process with status 1 and its name in the log."""
    process = pod.run(env={variable: value})
    output = pod.read_output(process)
    assert process.returncode == 1
    assert variable in json.loads(output)["reason"]
    assert pod.probe(env={variable: value}) == 1


def test_runs_as_a_user_without_name_or_home(pod: Pod) -> None:
    """An arbitrary UID, no HOME, only the delivered folder writable: as in a restricted pod."""
    pod.add_secret("orders", PLAINTEXT)
    uid = 123456
    os.chown(pod.keys, uid, uid)
    process = pod.run(uid=uid, python=find_python(uid))
    wait_until((pod.keys / "orders").exists)
    assert (pod.keys / "orders").stat().st_uid == uid
    pod.stop(process)


def test_unknown_command_is_explained(pod: Pod) -> None:
    """A wrong command gives the usage and status 2."""
    process = pod.run("deliver")
    output = pod.read_output(process)
    assert process.returncode == 2
    assert "usage" in output

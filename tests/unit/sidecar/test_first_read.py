"""``datakeys.dev/reads: once``: one reader gets the data key, the next ones don't."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datakeys.sidecar import first_read, lease
from datakeys.sidecar.delivery import Slot
from datakeys.sidecar.first_read import FirstRead
from datakeys.sidecar.lifetime import OVER, read_mark
from process_memory import find_in_memory

from .conftest import Pod, wait_until
from .test_socket_delivery import ask, get

PLAINTEXT = os.urandom(32)
ONCE = {"DATAKEYS_READS": "once"}


@pytest.fixture
def delivered(pod: Pod) -> "subprocess.Popen[bytes]":
    """Start a sidecar that delivers the file ``orders`` to one reader."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run(env=ONCE)
    wait_until((pod.keys / "orders").exists)
    return process


def _publish(folder: Path) -> Slot:
    slot = Slot(str(folder), "orders", named=True, reads_once=True)
    os.write(slot.open(), PLAINTEXT)
    assert slot.publish()
    return slot


def _start_reader(path: Path | str, then: str) -> "subprocess.Popen[bytes]":
    script = (
        f"import sys; f = open({str(path)!r}, 'rb', 0); key = f.read(); sys.stdout.buffer.write(key); {then}"
    )
    return subprocess.Popen(
        [sys.executable, "-ISc", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def test_file_is_read_once(pod: Pod, delivered: "subprocess.Popen[bytes]") -> None:
    """The first reader gets the whole key; at once there is no name for a second one, and it stays so."""
    assert (pod.keys / "orders").read_bytes() == PLAINTEXT
    assert not (pod.keys / "orders").exists()
    assert read_mark(str(pod.keys), "orders") == OVER
    pod.wait_event(delivered, "expired")
    events = [json.loads(line) for line in pod.stop(delivered).splitlines()]
    assert [event["event"] for event in events] == ["started", "delivered", "expired", "stopped"]
    again = pod.run(env=ONCE)
    wait_until(lambda: pod.probe(ONCE) == 0)
    assert not (pod.keys / "orders").exists()
    pod.stop(again)
    assert len(pod.service.calls) == 1


def test_looking_is_not_reading(pod: Pod, delivered: "subprocess.Popen[bytes]") -> None:
    """The startup probe and a listing of the folder leave the key to the app."""
    for _ in range(3):
        assert pod.probe(ONCE) == 0
    assert [path.name for path in pod.keys.iterdir()] == ["orders"]
    assert (pod.keys / "orders").stat().st_size == len(PLAINTEXT)
    assert (pod.keys / "orders").read_bytes() == PLAINTEXT
    pod.stop(delivered)


def test_of_many_readers_in_turn_one_gets_it(pod: Pod, delivered: "subprocess.Popen[bytes]") -> None:
    """Processes that come one after the other, however fast, never share it."""
    results = []
    for _ in range(5):
        try:
            results.append((pod.keys / "orders").read_bytes())
        except FileNotFoundError:
            results.append(b"")
    assert results == [PLAINTEXT, b"", b"", b"", b""]
    pod.stop(delivered)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads other processes' memory")
def test_key_is_nowhere_after_its_read(pod: Pod, delivered: "subprocess.Popen[bytes]") -> None:
    """While the reader lives its memory has the key; the sidecar's has it neither then nor later."""
    reader = _start_reader(pod.keys / "orders", "sys.stdout.flush(); f.close(); import time; time.sleep(60)")
    assert reader.stdout
    assert reader.stdout.read(len(PLAINTEXT)) == PLAINTEXT
    assert find_in_memory(reader.pid, PLAINTEXT)
    wait_until(lambda: not [path for path in pod.keys.iterdir() if path.is_file()])
    pod.wait_event(delivered, "expired")
    assert find_in_memory(delivered.pid, PLAINTEXT) == []
    opened = [link.readlink() for link in Path(f"/proc/{delivered.pid}/fd").iterdir()]
    assert not [path for path in opened if path.is_relative_to(pod.keys)]
    reader.kill()
    reader.communicate()
    pod.stop(delivered)


def test_reader_that_does_not_close_loses_it_in_the_end(
    memory_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that keeps the file open is given some seconds; then it is empty, whoever has it."""
    monkeypatch.setattr(first_read, "READ_SECONDS", 0.2)
    slot = _publish(memory_folder)
    watch = FirstRead([slot])
    assert watch.advance(0.0) is None
    with _start_reader(slot.path, "sys.stdout.flush(); import time; time.sleep(60)") as reader:
        assert reader.stdout
        wait_until(lambda: lease.is_broken(slot.fd))
        assert watch.advance(100.0) == pytest.approx(100.005)
        assert not Path(slot.path).exists()
        assert reader.stdout.read(len(PLAINTEXT)) == PLAINTEXT
        looks = []
        due = watch.advance(100.005)
        while due is not None:
            looks.append(due)
            assert slot.size == len(PLAINTEXT)
            due = watch.advance(due)
        assert len(looks) < 10, "fewer looks the longer it takes"
        assert looks[-1] == pytest.approx(100.2)
        assert Path(f"/proc/{reader.pid}/fd/3").read_bytes() == b""
        assert slot.gone
        reader.kill()


def test_time_may_end_what_is_being_read(memory_folder: Path) -> None:
    """Whichever end comes first counts; the other one then finds nothing to do."""
    slot = _publish(memory_folder)
    watch = FirstRead([slot])
    with _start_reader(slot.path, "sys.stdout.flush(); import time; time.sleep(60)") as reader:
        wait_until(lambda: lease.is_broken(slot.fd))
        due = watch.advance(0.0)
        slot.end()
        assert due is not None
        assert watch.advance(due) is None
        reader.kill()


def test_nobody_reads_a_file_before_it_is_delivered(memory_folder: Path) -> None:
    """If somebody has the unfinished file open it isn't delivered: it could be read twice."""
    slot = Slot(str(memory_folder), "orders", named=True, reads_once=True)
    os.write(slot.open(), PLAINTEXT)
    with (memory_folder / ".orders").open("rb"):
        assert not slot.publish()
    assert slot.publish()
    slot.close()


def test_file_that_somebody_has_opened_early_is_made_anew(pod: Pod) -> None:
    """The log says why the key isn't there, and it comes when the other process lets go."""
    pod.add_secret("orders", PLAINTEXT)
    with contextlib.ExitStack() as held:
        held.enter_context(pod.service.holding())
        process = pod.run(env=ONCE)
        wait_until((pod.keys / ".orders").exists)
        with (pod.keys / ".orders").open("rb"):
            held.close()
            pod.wait_event(process, "decrypt_failed")
    wait_until((pod.keys / "orders").exists)
    assert (pod.keys / "orders").read_bytes() == PLAINTEXT
    codes = [json.loads(line).get("code") for line in pod.stop(process).splitlines()]
    assert codes[:3] == [None, "FileInUse", None]


def test_file_system_without_leases_is_refused() -> None:
    """The text says what to do instead."""
    lease.check_leases("/dev/shm")  # noqa: S108
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object) -> None:
            raise OSError(22, "Invalid argument")

        patch.setattr(fcntl, "fcntl", refuse)
        with pytest.raises(ValueError, match=r"DATAKEYS_READS once needs file leases.*use delivery socket"):
            lease.check_leases("/dev/shm")  # noqa: S108


def test_socket_serves_it_once(pod: Pod) -> None:
    """The first answer is the key, the second 410, also after a restart; /healthz costs nothing."""
    pod.add_secret("orders", PLAINTEXT)
    env = {**ONCE, "DATAKEYS_DELIVERY": "socket"}
    process = pod.run(env=env)
    wait_until(lambda: pod.probe(env) == 0)
    assert ask(pod, get("/v1/data-keys/orders")) == (200, PLAINTEXT)
    assert ask(pod, get("/v1/data-keys/orders")) == (410, b"")
    assert pod.probe(env) == 0
    pod.stop(process)
    again = pod.run(env=env)
    wait_until(lambda: pod.probe(env) == 0)
    assert ask(pod, get("/v1/data-keys/orders")) == (410, b"")
    pod.stop(again)
    assert len(pod.service.calls) == 1

"""The lifetime of a data key: its marks, its end by time, and that nothing brings it back."""

import json
import mmap
import os
import subprocess
import time
from pathlib import Path

import pytest

from datakeys.sidecar.delivery import Slot, _overwrite
from datakeys.sidecar.lifetime import OVER, read_boot_clock, read_mark, write_mark
from process_memory import find_children, find_in_memory

from .conftest import Pod, wait_until
from .test_socket_delivery import ask, get

PLAINTEXT = os.urandom(32)
ONE_SECOND = {"DATAKEYS_TTL_SECONDS": "1"}
#: Long enough to look at the data key while it lives.
SHORT_SECONDS = 4
SHORT = {"DATAKEYS_TTL_SECONDS": str(SHORT_SECONDS)}
#: Longer than any test.
LONG_SECONDS = 3600
LONG = {"DATAKEYS_TTL_SECONDS": str(LONG_SECONDS)}
SOCKET = {"DATAKEYS_DELIVERY": "socket"}


def _publish(folder: Path, *, reads_once: bool) -> Slot:
    slot = Slot(str(folder), "orders", named=False, reads_once=reads_once)
    os.write(slot.open(), PLAINTEXT)
    assert slot.publish()
    return slot


def test_mark_is_found_again(memory_folder: Path) -> None:
    """A mark keeps its time to the millisecond and is replaced in one step; without one there is no end."""
    folder = str(memory_folder)
    assert read_mark(folder, "orders") is None
    write_mark(folder, "orders", 12.3456)
    assert read_mark(folder, "orders") == 12.345
    write_mark(folder, "orders", OVER)
    assert read_mark(folder, "orders") == OVER
    assert os.listdir(folder) == [".~orders"]  # noqa: PTH208


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "²"])
def test_mark_that_makes_no_sense_counts_as_over(memory_folder: Path, text: str) -> None:
    """The key stays away rather than live too long."""
    (memory_folder / ".~orders").symlink_to(text)
    assert read_mark(str(memory_folder), "orders") == OVER
    (memory_folder / ".~other").write_text("5")
    assert read_mark(str(memory_folder), "other") == OVER


def test_longest_name_has_a_mark(memory_folder: Path) -> None:
    """A name of 253 characters still fits into a file name of 255."""
    write_mark(str(memory_folder), "a" * 253, 1.0)
    assert read_mark(str(memory_folder), "a" * 253) == 1.0


def test_read_ends_a_key_that_may_be_read_once(memory_folder: Path) -> None:
    """After the first whole read the key is gone, and marked; any other key stays."""
    slot = _publish(memory_folder, reads_once=True)
    slot.note_read()
    assert (slot.gone, slot.ready, slot.fd) == (True, False, -1)
    assert read_mark(str(memory_folder), "orders") == OVER
    lasting = _publish(memory_folder, reads_once=False)
    lasting.note_read()
    assert (lasting.gone, lasting.ready) == (False, True)
    lasting.close()


def test_page_itself_is_overwritten(memory_folder: Path) -> None:
    """A process that has mapped the file before sees the page: the key is in it first, then zeros."""
    slot = _publish(memory_folder, reads_once=False)
    with mmap.mmap(slot.fd, len(PLAINTEXT), prot=mmap.PROT_READ) as page:
        assert page[:] == PLAINTEXT
        with pytest.MonkeyPatch.context() as patch:
            # The last step would take the page away from the file, and so from this mapping.
            truncate = os.ftruncate
            patch.setattr(os, "ftruncate", lambda fd, size: truncate(fd, size) if size else None)
            _overwrite(slot.fd)
        assert page[:] == bytes(32)
    slot.close()


def _read_events(pod: Pod, process: "subprocess.Popen[bytes]") -> list[str]:
    return [json.loads(line)["event"] for line in pod.stop(process).splitlines()]


def _wait_mark(pod: Pod) -> float:
    """Wait until the lifetime has begun; return its end."""
    wait_until(lambda: read_mark(str(pod.keys), "orders") is not None)
    return read_mark(str(pod.keys), "orders") or OVER


def test_key_is_gone_after_its_time(pod: Pod) -> None:
    """The file goes, an app that has it open finds it empty, and the key service isn't asked again."""
    pod.add_secret("orders", PLAINTEXT)
    started = read_boot_clock()
    process = pod.run(env=SHORT)
    target = pod.keys / "orders"
    wait_until(target.exists)
    with target.open("rb") as late:
        assert target.read_bytes() == PLAINTEXT
        end = _wait_mark(pod)
        assert started + SHORT_SECONDS - 0.001 <= end <= read_boot_clock() + SHORT_SECONDS
        wait_until(lambda: not target.exists())
        assert end <= read_boot_clock()
        wait_until(lambda: os.fstat(late.fileno()).st_size == 0)
        assert late.read() == b""
    time.sleep(0.3)
    assert len(pod.service.calls) == 1
    assert _read_events(pod, process) == ["started", "delivered", "expired", "stopped"]


def test_probe_passes_after_a_short_life(pod: Pod) -> None:
    """The kubelet may look only when the key is gone already: the pod must start all the same."""
    assert pod.probe(ONE_SECOND) == 1
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run(env=ONE_SECOND)
    _wait_mark(pod)
    assert pod.probe(ONE_SECOND) == 0
    wait_until(lambda: not (pod.keys / "orders").exists())
    assert pod.probe(ONE_SECOND) == 0
    pod.stop(process)


def test_restart_keeps_the_end(pod: Pod) -> None:
    """A sidecar that is killed and started again delivers again, but not for any longer."""
    pod.add_secret("orders", PLAINTEXT)
    first = pod.run(env=LONG)
    target = pod.keys / "orders"
    end = _wait_mark(pod)
    first.kill()
    first.wait()
    inode = target.stat().st_ino
    second = pod.run(env=LONG)
    wait_until(lambda: target.stat().st_ino != inode)
    pod.wait_event(second, "delivered")
    assert target.read_bytes() == PLAINTEXT
    assert read_mark(str(pod.keys), "orders") == end
    second.kill()
    second.wait()
    # The hour is nearly over.
    end = read_boot_clock() + 1
    write_mark(str(pod.keys), "orders", end)
    third = pod.run(env=LONG)
    wait_until(lambda: not target.exists())
    assert end - 0.001 <= read_boot_clock()
    assert _read_events(pod, third)[-2:] == ["expired", "stopped"]


@pytest.mark.parametrize("delivery", ["file", "socket"])
def test_restart_after_the_end_delivers_nothing(pod: Pod, delivery: str) -> None:
    """What is over stays over: no call to the key service, and what a killed predecessor left is removed."""
    pod.add_secret("orders", PLAINTEXT)
    env = {**LONG, "DATAKEYS_DELIVERY": delivery}
    process = pod.run(env=env)
    _wait_mark(pod)
    process.kill()
    process.wait()
    write_mark(str(pod.keys), "orders", read_boot_clock())
    assert (pod.keys / "orders").exists() == (delivery == "file")
    again = pod.run(env=env)
    wait_until(lambda: pod.probe(env) == 0)
    pod.wait_event(again, "expired")
    time.sleep(0.3)
    assert not (pod.keys / "orders").exists()
    assert len(pod.service.calls) == 1
    assert _read_events(pod, again) == ["started", "expired", "stopped"]


def test_end_comes_while_the_key_service_is_asked_again(pod: Pod) -> None:
    """After a restart Decrypt may take longer than the rest of the lifetime: nothing is delivered then."""
    pod.add_secret("orders", PLAINTEXT)
    first = pod.run(env=LONG)
    _wait_mark(pod)
    first.kill()
    first.wait()
    with pod.service.holding():
        write_mark(str(pod.keys), "orders", read_boot_clock() + SHORT_SECONDS)
        second = pod.run(env=LONG)
        wait_until(lambda: len(pod.service.calls) == 2)
        wait_until(lambda: not (pod.keys / "orders").exists())
    time.sleep(1.0)
    assert not (pod.keys / "orders").exists()
    assert _read_events(pod, second) == ["started", "expired", "stopped"]


def test_socket_answers_gone_after_the_end(pod: Pod) -> None:
    """Over the socket the key is 410 for good, and the health of the pod isn't touched."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run(env={**SOCKET, **SHORT})
    _wait_mark(pod)
    assert ask(pod, get("/v1/data-keys/orders")) == (200, PLAINTEXT)
    wait_until(lambda: ask(pod, get("/v1/data-keys/orders")) == (410, b""))
    assert ask(pod, get("/healthz")) == (200, b"")
    pod.stop(process)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads other processes' memory")
@pytest.mark.parametrize("delivery", ["file", "socket"])
def test_memory_does_not_hold_the_key_after_its_end(pod: Pod, delivery: str) -> None:
    """Neither the sidecar's process nor the volume has the key any more; the reader's own memory has."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run(env={**SHORT, "DATAKEYS_DELIVERY": delivery})
    _wait_mark(pod)
    if delivery == "file":
        read = (pod.keys / "orders").read_bytes()
    else:
        read = ask(pod, get("/v1/data-keys/orders"))[1]
    assert find_in_memory(os.getpid(), bytes(read)), "the search finds a key where there is one"
    assert find_in_memory(process.pid, b"DATAKEYS_REQUESTS=orders"), "and it looks into the sidecar"
    pod.wait_event(process, "expired")
    for pid in [process.pid, *find_children(process.pid)]:
        assert find_in_memory(pid, PLAINTEXT) == []
    kept = [path for path in pod.keys.iterdir() if path.is_file()]
    assert kept == []
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        assert not link.readlink().is_relative_to(pod.keys / "orders")
    pod.stop(process)

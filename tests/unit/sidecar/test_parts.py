"""The resident process's parts, in this process: mounts, slots, reports, events, settings, hanging child."""

import json
import os
import time
from pathlib import Path

import pytest

from datakeys.sidecar import child as child_module
from datakeys.sidecar import delivery
from datakeys.sidecar.__main__ import main as command
from datakeys.sidecar.child import parse_report
from datakeys.sidecar.delivery import Slot, check_directory, is_memory_backed, is_swappable, remove_leftovers
from datakeys.sidecar.events import ERROR, INFO, WARNING, EventLog, format_event
from datakeys.sidecar.interpreter import build_command
from datakeys.sidecar.probe import probe, probe_from_environment
from datakeys.sidecar.reactor import READABLE, Handler, Reactor
from datakeys.sidecar.resident import Resident, serve
from datakeys.sidecar.settings import MAX_TTL_SECONDS, is_request_name, read_settings

from .conftest import PATIENCE_SECONDS, Pod, wait_until

PLAINTEXT = bytes(range(32))
MOUNTS = """overlay / overlay rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
tmpfs /var/run/datakeys/keys tmpfs rw,noswap 0 0
/dev/sda1 /var/run/datakeys/keys/disk ext4 rw 0 0
tmpfs /with\\040space tmpfs rw 0 0
tmpfs /twice tmpfs rw 0 0
/dev/sda2 /twice ext4 rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/var/run/datakeys/keys", True),
        ("/var/run/datakeys/keys/sub", True),
        ("/var/run/datakeys/keys2", False),
        ("/var/run/datakeys", False),
        ("/var/run/datakeys/keys/disk", False),
        ("/with space/x", True),
        ("/twice", False),
        ("/", False),
    ],
)
def test_only_a_tmpfs_is_memory_backed(directory: str, expected: bool) -> None:
    """The nearest mount decides, of two at one place the later."""
    assert is_memory_backed(directory, MOUNTS) is expected


@pytest.mark.parametrize(
    ("directory", "swaps", "expected"),
    [
        ("/with space", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n", True),
        ("/with space", "Filename Type Size Used Priority\n", False),
        ("/with space", "", False),
        ("/var/run/datakeys/keys", "Filename Type Size Used Priority\n/swap file 1 0 -2\n", False),
    ],
)
def test_a_tmpfs_may_be_swapped_unless_mounted_otherwise(directory: str, swaps: str, expected: bool) -> None:
    """It takes a swap area on the node and a mount without noswap."""
    assert is_swappable(directory, MOUNTS, swaps) is expected


def test_no_mounts_no_memory() -> None:
    """If nothing is known, nothing is written."""
    assert not is_memory_backed("/keys", "")


def test_link_to_a_disk_is_seen_through(memory_folder: Path, tmp_path: Path) -> None:
    """A link on the tmpfs that leads to a disk is refused."""
    check_directory(str(memory_folder))
    (memory_folder / "link").symlink_to("/proc")
    with pytest.raises(ValueError, match="memory-backed"):
        check_directory(str(memory_folder / "link"))
    assert tmp_path


def test_slot_is_written_published_and_wiped(memory_folder: Path) -> None:
    """Empty is no key; what was published is emptied before it goes, whoever still has it open."""
    slot = Slot(str(memory_folder), "orders", named=True)
    slot.open()
    assert not slot.publish()
    os.write(slot.open(), PLAINTEXT)
    assert slot.publish()
    with (memory_folder / "orders").open("rb") as reader:
        slot.close()
        assert reader.read() == b""
    slot.close()
    assert list(memory_folder.iterdir()) == []


def test_slot_never_follows_a_link(memory_folder: Path, tmp_path: Path) -> None:
    """Somebody's link in the place of the temporary or the final file is replaced, not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    for name in (".orders", "orders"):
        (memory_folder / name).symlink_to(elsewhere)
    slot = Slot(str(memory_folder), "orders", named=True)
    os.write(slot.open(), PLAINTEXT)
    assert slot.publish()
    assert elsewhere.read_bytes() == b"mine"
    assert not (memory_folder / "orders").is_symlink()
    slot.close()


def test_leftovers_are_wiped_but_links_are_not_followed(memory_folder: Path, tmp_path: Path) -> None:
    """Files of a killed predecessor are overwritten; links, folders and other names are left alone."""
    (memory_folder / "a").write_bytes(PLAINTEXT)
    (memory_folder / "a").chmod(0o400)
    (memory_folder / ".b").write_bytes(PLAINTEXT)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    (memory_folder / "link").symlink_to(elsewhere)
    (memory_folder / "other").write_bytes(b"other")
    with (memory_folder / "a").open("rb") as reader:
        remove_leftovers(str(memory_folder), ["a", "b", "link", "missing"])
        assert reader.read() == b""
    assert sorted(path.name for path in memory_folder.iterdir()) == ["link", "other"]
    assert elsewhere.read_bytes() == b"mine"


def test_report_is_believed_only_in_its_form() -> None:
    """Unknown names, kinds and broken lines count for nothing; a name without a line is tried again."""
    report = b"a\tok\t\t\nb\tfinal\tDisabledException\tenable it\nc\tgreat\t\t\nx\tok\t\t\nc\tok\n\xff\t\n"
    outcomes = {one.name: (one.kind, one.code) for one in parse_report(report, ["a", "b", "c"])}
    assert outcomes == {"a": ("ok", ""), "b": ("final", "DisabledException"), "c": ("retry", "NoReport")}


def test_events_are_json_whatever_they_hold(tmp_path: Path) -> None:
    """What JSON would have to escape is replaced; the level filters."""
    line = format_event("x", {"text": 'a"b\\c\nd\x00é', "number": 7}, level=WARNING, now=1.5)
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "warning",
        "event": "x",
        "text": "a?b?c?d??",
        "number": 7,
    }
    target = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    log = EventLog(WARNING, target)
    log.write("quiet", INFO)
    log.write("loud", ERROR, code="x")
    os.close(target)
    log.write("lost", ERROR)
    (text,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(text)["event"] == "loud"


@pytest.mark.parametrize("name", ["a", "a-b", "a.b", "0", "a" * 253, "a@1", "a.b@120"])
def test_request_names(name: str) -> None:
    """DNS subdomains are names, and a version may follow."""
    assert is_request_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b",
        "-a",
        "a-",
        "a.-b",
        "A",
        "a/b",
        "a b",
        "é",
        "a" * 254,
        "@1",
        "a@",
        "a@0",
        "a@01",
        "a@b",
        "a@1@2",
        "a@-1",
        "a@²",
    ],
)
def test_other_texts_are_no_request_names(name: str) -> None:
    """Nothing that could be a path, or needs escaping."""
    assert not is_request_name(name)


def test_settings_have_the_paths_of_a_pod() -> None:
    """Without the tests' overrides everything is where docs/architecture.md says."""
    settings = read_settings({"DATAKEYS_REQUESTS": "a, b", "DATAKEYS_KEYSERVICE_URL": "https://k"})
    assert settings.requests == ["a", "b"]
    assert settings.delivery == "file"
    assert settings.encrypted_directory == "/var/run/datakeys/encrypted"
    assert settings.token_file == "/var/run/datakeys/token/token"
    assert settings.ca_file == "/var/run/datakeys/trust/ca.crt"
    assert settings.socket_path == "/var/run/datakeys/keys/datakeys.sock"


def test_interpreter_is_closed() -> None:
    """Neither the environment, nor the working folder, nor site-packages can put code into it."""
    command_line = build_command("resident")
    assert command_line[1:4] == ["-I", "-S", "-B"]


@pytest.mark.parametrize("delivery", ["file", "socket"])
def test_whole_life_in_one_process(pod: Pod, monkeypatch: pytest.MonkeyPatch, delivery: str) -> None:
    """Deliver, pass the probe, stop, clean up."""
    pod.add_secret("orders", PLAINTEXT)
    environment = {**pod.environment, "DATAKEYS_DELIVERY": delivery}
    settings = read_settings(environment)
    reactor = Reactor()
    resident = Resident(settings, reactor, EventLog(ERROR))
    end = time.monotonic() + PATIENCE_SECONDS
    while not resident.slots[0].ready and time.monotonic() < end:
        reactor.step(resident.advance(time.monotonic()))
    assert resident.slots[0].ready
    assert resident.advance(time.monotonic()) is None
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if delivery == "file":
        assert probe(settings)
        assert probe_from_environment() == 0
        assert command(["probe"]) == 0
    resident.close()
    assert list(pod.keys.iterdir()) == []
    assert command(["probe"]) == 1
    reactor.stopping = True
    serve(settings, reactor, EventLog(ERROR))
    assert list(pod.keys.iterdir()) == []


def test_hanging_child_is_ended_and_tried_again(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key service that accepts and never answers costs one child's time, not the data key."""
    monkeypatch.setattr(child_module, "TIMEOUT_SECONDS", 0.05)
    pod.add_secret("orders", PLAINTEXT)
    reactor = Reactor()
    resident = Resident(read_settings(pod.environment), reactor, EventLog(ERROR))
    deadline = resident.advance(time.monotonic())
    assert deadline is not None
    time.sleep(0.06)
    retry_at = resident.advance(time.monotonic())
    assert retry_at is not None
    assert not resident.slots[0].ready
    assert not any(path.is_file() for path in pod.keys.iterdir())
    monkeypatch.setattr(child_module, "TIMEOUT_SECONDS", 30.0)

    def step() -> bool:
        reactor.step(min(resident.advance(time.monotonic()) or 1e9, time.monotonic() + 0.1))
        return resident.slots[0].ready

    wait_until(step)
    resident.close()


def test_reactor_waits_for_thirty_days() -> None:
    """The longest lifetime is more than poll(2) takes; a descriptor wakes it all the same."""
    reactor = Reactor()
    woken: list[int] = []

    class Note(Handler):
        def handle(self) -> None:
            reactor.remove(read_fd)
            woken.append(read_fd)

    read_fd, write_fd = os.pipe()
    reactor.add(read_fd, READABLE, Note())
    os.write(write_fd, b"x")
    reactor.step(time.monotonic() + MAX_TTL_SECONDS)
    assert woken == [read_fd]
    os.close(read_fd)
    os.close(write_fd)


def test_node_that_swaps_is_told_of(memory_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume is used all the same; the advice is for whoever runs the node."""
    texts = {"/proc/self/mounts": "tmpfs / tmpfs rw 0 0", "/proc/swaps": "Filename\n/dev/sda2 partition"}
    monkeypatch.setattr(delivery, "_read_text", texts.get)
    assert "turn swap off" in check_directory(str(memory_folder))
    texts["/proc/swaps"] = "Filename\n"
    assert check_directory(str(memory_folder)) == ""

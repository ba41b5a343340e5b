"""Deliveries, reads, crashes, restarts and time in any order: no data key outlives its end or ends early."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from datakeys.sidecar.delivery import Slot, remove_leftovers
from datakeys.sidecar.events import ERROR, EventLog
from datakeys.sidecar.expiry import Expiry
from datakeys.sidecar.settings import Settings

NAMES = ["orders", "orders@1"]
PLAINTEXT = b"the data key, 32 bytes in length"
TTL_SECONDS = 10


class Lifetimes(RuleBasedStateMachine):
    """One pod whose sidecar delivers two data keys by file and may be killed at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.now = 1000.0
        #: The model: name -> when its lifetime is over.
        self.ends: dict[str, float] = {}
        #: Files that some app has opened and not closed.
        self.opened: list[tuple[str, int]] = []

    @initialize()
    def start(self) -> None:
        """Start the sidecar."""
        environment = {
            "DATAKEYS_REQUESTS": ",".join(NAMES),
            "DATAKEYS_TTL_SECONDS": str(TTL_SECONDS),
            "DATAKEYS_KEYS_DIRECTORY": str(self.folder),
        }
        self.slots = [Slot(str(self.folder), name, named=True) for name in NAMES]
        self.expiry = Expiry(Settings(environment), self.slots, EventLog(ERROR))
        self.expiry.advance(self.now, self.now)

    @rule(index=st.sampled_from([0, 1]))
    def deliver(self, index: int) -> None:
        """What the resident process does when the child has written a data key."""
        slot = self.slots[index]
        if slot.gone or slot.ready:
            return
        os.write(slot.open(), PLAINTEXT)
        assert slot.publish()
        self.expiry.begin(slot, self.now)
        self.ends.setdefault(slot.name, self.now + TTL_SECONDS)

    @rule(index=st.sampled_from([0, 1]))
    def unfinished(self, index: int) -> None:
        """The child has written, and what comes next is a crash, or another attempt."""
        slot = self.slots[index]
        if not slot.gone and not slot.ready:
            os.write(slot.open(), PLAINTEXT[:16])

    @rule(seconds=st.sampled_from([0.001, 1.0, 4.0, 9.999, 10.0, 60.0]))
    def wait(self, seconds: float) -> None:
        """Time goes on; the sidecar is woken at the deadline that it has asked for, not earlier."""
        until = self.now + seconds
        while True:
            deadline = self.expiry.advance(self.now, self.now)
            if deadline is None or deadline > until:
                break
            assert deadline > self.now - 0.001
            # As the reactor does, which rounds up to milliseconds.
            self.now = deadline + 0.001
        self.now = until
        self.expiry.advance(self.now, self.now)

    @rule(name=st.sampled_from(NAMES))
    def read(self, name: str) -> None:
        """An app opens the file: what it finds is the whole key."""
        path = self.folder / name
        if path.exists():
            fd = os.open(path, os.O_RDONLY)
            assert os.pread(fd, 100, 0) == PLAINTEXT
            self.opened.append((name, fd))

    @rule(asleep=st.sampled_from([0.0, 3.0, 30.0]))
    def crash(self, asleep: float) -> None:
        """SIGKILL, and a new start some time later over the same volume."""
        for slot in self.slots:
            if slot.fd >= 0:
                os.close(slot.fd)
        self.now += asleep
        self.start()

    @rule()
    def restart_in_order(self) -> None:
        """SIGTERM, and a new start."""
        for slot in self.slots:
            slot.close()
        remove_leftovers(str(self.folder), NAMES)
        assert not [path for path in self.folder.iterdir() if not path.name.startswith(".~")]
        self.start()

    @invariant()
    def nothing_outlives_its_end(self) -> None:
        """After its end a data key is in no file, whoever holds it open, and can't be delivered any more."""
        for name, end in self.ends.items():
            if end > self.now:
                continue
            slot = next(one for one in self.slots if one.name == name)
            assert slot.gone
            assert slot.fd == -1
            assert not (self.folder / name).exists()
            assert not (self.folder / f".{name}").exists()

    @invariant()
    def nothing_ends_early(self) -> None:
        """Until then it is there if it was delivered, or can be delivered again."""
        for slot in getattr(self, "slots", []):
            # A mark has whole milliseconds.
            if self.ends.get(slot.name, self.now + 1) > self.now + 0.002:
                assert not slot.gone
                assert not slot.ready or (self.folder / slot.name).read_bytes() == PLAINTEXT

    @invariant()
    def nobody_reads_zeros(self) -> None:
        """A file that an app has open holds its key, or nothing."""
        for _, fd in self.opened:
            assert os.pread(fd, 100, 0) in (PLAINTEXT, b"")

    def teardown(self) -> None:
        """Close and remove everything."""
        for fd in {fd for _, fd in self.opened} | {slot.fd for slot in getattr(self, "slots", [])}:
            if fd >= 0:
                os.close(fd)
        shutil.rmtree(self.folder)


TestLifetimes = Lifetimes.TestCase
TestLifetimes.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)

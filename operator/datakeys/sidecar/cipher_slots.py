"""What the cipher process is told of the data keys, and which of them a request may use; pure.

Zone: names and sizes only.
"""

WAITING = "waiting"
READY = "ready"
GONE = "gone"
#: Delivered, but one of more data keys than a message can carry.
BEYOND = "beyond"
ENCRYPT = "encrypt"
DECRYPT = "decrypt"


class KeyState:
    """A data key, seen from the cipher process: ``size`` in bytes, and ``fd`` if it is ready."""

    __slots__ = ("fd", "name", "size", "state")

    def __init__(self, name: str, state: str, size: int = 0, fd: int = -1) -> None:
        self.name = name
        self.state = state
        self.size = size
        self.fd = fd


def build_message(states: list[KeyState]) -> bytes:
    """Return a message; the descriptors of the ready ones go with it, in the same order."""
    return "".join(f"{one.name}\t{one.state}\t{one.size}\n" for one in states).encode("ascii")


def parse_message(message: bytes, fds: list[int]) -> list[KeyState]:
    """Return what ``build_message`` was given, with the descriptors as they are numbered here."""
    states = []
    numbers = iter(fds)
    for line in message.decode("ascii").splitlines():
        name, state, size = line.split("\t")
        states.append(KeyState(name, state, int(size), next(numbers) if state == READY else -1))
    return states


def decide_candidates(states: list[KeyState], name: str, operation: str) -> list[KeyState]:
    """Return the data keys that a request may use, in the order in which they are tried; empty: no such name.

    Encrypt uses the current version only; decrypt also the kept ones, ``name@N``, the latest first.
    """
    versions = [one for one in states if one.name.startswith(f"{name}@")]
    versions.sort(key=lambda one: int(one.name.rpartition("@")[2]), reverse=True)
    current = [one for one in states if one.name == name]
    return current + versions if current and operation == DECRYPT else current

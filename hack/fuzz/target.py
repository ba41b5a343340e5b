"""What a target is, and when it has found something.

Zone: tools. A target hands bytes to the product's own entry and checks what comes back. An exception that the
entry's documentation doesn't name goes through, and is a finding too.
"""

import hashlib
import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

#: Name -> module of ``fuzz.targets``.
TARGETS: Final[Mapping[str, str]] = {
    name: name.replace("-", "_")
    for name in (
        "admission",
        "aws-endpoint",
        "bearer-token",
        "ciphertext-blob",
        "encrypted-data-key",
        "http-connection",
        "key-policy",
        "kms-operation",
        "kms-token",
        "sidecar-answer",
        "sidecar-socket",
        "signature-v4",
        "stored-record",
        "streaming-ciphertext",
    )
}
#: CPU seconds that one input may take, instrumented or not.
MAX_SECONDS: Final = 1.0
#: 32 bytes of the key service of all targets: a corpus is only worth keeping under the same root key.
ROOT_SECRET: Final = bytes(range(32))


class Finding(Exception):  # noqa: N818 - not an error of the fuzzer
    """The product did something that it must not do."""


class Target(ABC):
    """An entry of the product.

    Attributes:
        max_bytes: Of an input.
        words: What is worth putting into an input: a dictionary.
        has_json: The inputs are a line and a JSON document, which is changed as such.
    """

    max_bytes = 4096
    words: Sequence[str] = ()
    has_json = False

    @abstractmethod
    def seeds(self) -> Iterable[bytes]:
        """Return inputs to start from, made by the product or its clients."""

    @abstractmethod
    def run(self, data: bytes) -> None:
        """Hand an input over.

        Raises:
            Exception: A finding.
        """

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Give back what the target holds."""


class FixedRandom:
    """A source of random bytes that gives the same ones every time."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, size: int) -> bytes:
        """Return the next bytes."""
        self._count += 1
        return hashlib.shake_256(self._count.to_bytes(8, "big")).digest(size)


def load(name: str) -> Target:
    """Return a target. Imports what it tests."""
    build: Callable[[], Target] = importlib.import_module(f"fuzz.targets.{TARGETS[name]}").build
    return build()


def require(condition: object, text: str, *details: Any) -> None:  # noqa: ANN401 - anything that can be shown
    """Check what must hold.

    Raises:
        Finding: It doesn't.
    """
    if not condition:
        raise Finding(": ".join([text, *map(repr, details)]))


def run_within_time(target: Target, data: bytes) -> None:
    """Run one input; CPU time counts, since other processes must not make a finding.

    Raises:
        Finding: It took too long.
    """
    started = time.process_time()
    target.run(data)
    seconds = time.process_time() - started
    require(seconds <= MAX_SECONDS, "it took too long", seconds)


def split_line(data: bytes) -> tuple[str, bytes]:
    """Return the first line, as text, and what comes after it."""
    line, _, rest = data.partition(b"\n")
    return line.decode("latin-1"), rest

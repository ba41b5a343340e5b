"""Ports for the processes under test. Zone: tests."""

import contextlib
import random
import socket

#: Below those that the kernel gives to outgoing connections, one of which could take a port before its
#: process listens, or while it is started again. Each is given once.
_left = random.sample(range(20_000, 32_000), 12_000)


def find_free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on, and that no outgoing connection gets by chance."""
    while True:
        port = _left.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return port

"""What goes on beside a test, in threads of its own, until it is stopped. Zone: tests."""

import threading
from collections.abc import Callable
from typing import Self


class Background:
    """Does things again and again, each in a thread.

    Attributes:
        stopped: Set when it is to end; who waits for something else waits for this as well.
    """

    def __init__(self, *works: Callable[[], object]) -> None:
        self.stopped = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(work,), daemon=True) for work in works]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.stop()

    def stop(self) -> None:
        """End, and wait until what is under way is done."""
        self.stopped.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work: Callable[[], object]) -> None:
        while not self.stopped.is_set():
            work()

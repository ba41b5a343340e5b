"""An executor without threads: the same input takes the same way every time."""

from concurrent.futures import Executor, Future
from typing import Any


class InlineExecutor(Executor):
    """Runs everything at once."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - as the base class
        """Run a function and return its result as a future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)
        return future

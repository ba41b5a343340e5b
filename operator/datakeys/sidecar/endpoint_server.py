"""The endpoint's own process: serves the KMS protocol on a loopback socket that the resident process opened.

Zone: this pod's token and whatever the app encrypts or decrypts pass through. The process can't be traced or
dumped; it prints names and codes only. It ends with the resident process, whose end closes standard input.
"""

import os
import select
import socket
import sys
import threading
import time
from typing import Final

from datakeys.sidecar.advice import Failure, advise
from datakeys.sidecar.endpoint_client import EndpointClient
from datakeys.sidecar.endpoint_upstream import Upstream
from datakeys.sidecar.events import WARNING, EventLog
from datakeys.sidecar.https_connection import Answer
from datakeys.sidecar.hygiene import lock_down_child
from datakeys.sidecar.retry import RETRY, decide_delay

#: A thread each. Beyond it, the longest idle connection gives way; with none idle, clients wait in the
#: kernel's queue for as long as a request may take.
MAX_CONNECTIONS: Final = 64
MIN_IDLE_SECONDS: Final = 1.0
_FULL_PAUSE_MILLISECONDS: Final = 20
#: No thread here needs more; the system's default is 8 MiB of address space.
_STACK_BYTES: Final = 256 * 1024
_LIFELINE: Final = 0


class Watcher:
    """Forwards; reports when the key service becomes unreachable and when it is back."""

    def __init__(self, upstream: Upstream, log: EventLog) -> None:
        self._upstream = upstream
        self._log = log
        self._code: str | None = "NotYet"
        #: True once the key service was reached.
        self.reached = False

    def forward(self, operation: str, body: bytes) -> Answer:
        """Forward one operation.

        Raises:
            Failure: The key service gave no answer.
        """
        try:
            answer = self._upstream.forward(operation, body)
        except Failure as failure:
            self._report_failure(failure.code)
            raise
        except Exception as error:  # noqa: BLE001 - the process edge: the type's name is all that may leave
            self._report_failure(type(error).__name__)
            raise Failure("InternalFailure", retryable=True) from None
        self._report_success()
        return answer

    def reach_once(self) -> None:
        """Try until the key service was reached: the app doesn't start before."""
        attempt = 0
        while not self.reached:
            attempt += 1
            try:
                self._upstream.reach()
            except Failure as failure:
                self._report_failure(failure.code)
                time.sleep(decide_delay(RETRY, attempt, jitter=os.urandom(1)[0] / 255))
            else:
                self._report_success()

    def _report_failure(self, code: str) -> None:
        if self._code != code:
            self._code = code
            self._log.write("endpoint_unavailable", WARNING, code=code, next=advise(code))

    def _report_success(self) -> None:
        self.reached = True
        if self._code is not None:
            self._code = None
            self._log.write("endpoint_ready")


class EndpointServer:
    """Accepts clients and keeps their number bounded."""

    def __init__(self, listener: socket.socket, watcher: Watcher) -> None:
        self._listener = listener
        self._watcher = watcher
        self._lock = threading.Lock()
        #: Connection -> since when it waits for a request (monotonic seconds), or None while it is at work.
        self._clients: dict[socket.socket, float | None] = {}

    def serve(self, lifeline: int) -> None:
        """Serve until the other end of the lifeline closes."""
        poll, pause = select.poll(), select.poll()
        poll.register(lifeline, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        pause.register(lifeline, select.POLLIN)
        while all(fd != lifeline for fd, _ in poll.poll()):
            if len(self._clients) < MAX_CONNECTIONS or self._evict():
                self._accept()
            elif pause.poll(_FULL_PAUSE_MILLISECONDS):
                return

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._clients[connection] = time.monotonic()
        try:
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()
        except RuntimeError:  # no thread left
            self._forget(connection)
            connection.close()

    def _run(self, connection: socket.socket) -> None:
        client = EndpointClient(
            connection,
            self._watcher,
            is_ready=lambda: self._watcher.reached,
            set_idle=lambda idle: self._set_idle(connection, idle=idle),
        )
        try:
            client.serve()
        except Exception as error:  # noqa: BLE001 - the process edge: a traceback could quote a body
            os.write(2, f"endpoint client failed: {type(error).__name__}\n".encode())
        finally:
            self._forget(connection)

    def _set_idle(self, connection: socket.socket, *, idle: bool) -> bool:
        with self._lock:
            if connection not in self._clients:
                return False
            self._clients[connection] = time.monotonic() if idle else None
            return True

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._clients.pop(connection, None)

    def _evict(self) -> bool:
        """End the connection that has been idle for the longest time; return False if none is idle.

        One that was just taken, or whose next request is here already, isn't idle: it would get no answer.
        """
        with self._lock:
            latest = time.monotonic() - MIN_IDLE_SECONDS
            idle = [(since, one) for one, since in self._clients.items() if since is not None]
            for since, connection in sorted(idle, key=lambda pair: pair[0]):
                if since <= latest and not _has_input(connection):
                    break
            else:
                return False
            del self._clients[connection]
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return True  # it had ended by itself
        return True


def _has_input(connection: socket.socket) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, select.POLLIN)
    except ValueError:  # its thread has just closed it
        return False
    return bool(poll.poll(0))


def main() -> None:
    """Serve until standard input closes.

    Arguments: URL of the key service, CA file, token file, descriptor of the listening socket, log level.
    """
    url, ca_file, token_file, listener_fd, level = sys.argv[1:]
    lock_down_child()
    threading.stack_size(_STACK_BYTES)
    watcher = Watcher(Upstream(url, ca_file=ca_file, token_file=token_file), EventLog(int(level)))
    listener = socket.socket(fileno=int(listener_fd))
    listener.setblocking(False)  # noqa: FBT003 - takes it by position only
    threading.Thread(target=watcher.reach_once, daemon=True).start()
    EndpointServer(listener, watcher).serve(lifeline=_LIFELINE)
    # No clean-up of the interpreter: the sooner the pages go, the better.
    os._exit(0)

"""The cipher process: encrypts and decrypts what apps send over the Unix socket.

Zone: data keys for microseconds, plaintext of the app as long as a request takes (see ``cipher_operations``).
The process is started by the first request and ended when none came for a while; it can't be traced or dumped
and prints advice only. Its standard input is the channel to the resident process, which sends clients with
the descriptors of the data keys and is told of each one that is done.
"""

import _thread
import os

from datakeys.sidecar.cipher_messages import Problem, parse_cipher_head, unusable
from datakeys.sidecar.cipher_operations import run
from datakeys.sidecar.cipher_slots import KeyState, decide_candidates, parse_message
from datakeys.sidecar.cipher_stream import Client
from datakeys.sidecar.descriptors import open_socket, receive_message
from datakeys.sidecar.events import WARNING, EventLog
from datakeys.sidecar.hygiene import lock_down_child
from datakeys.sidecar.libcrypto import Library, UnusableLibraryError, load_library
from datakeys.sidecar.primitives import Socket
from datakeys.sidecar.settings import Settings

MAX_MESSAGE_BYTES = 1 << 17
DONE = b"1"
_MAX_INHERITED_FDS = 1024
_STACK_BYTES = 1 << 18


def main() -> None:
    """Serve until the resident process closes the channel or ends."""
    try:
        # The descriptor of a data key that is just being delivered may be inherited.
        os.closerange(3, _MAX_INHERITED_FDS)
        serve(open_socket(0), _load())
    finally:
        # Neither a traceback nor the interpreter's clean-up: what is secret is wiped, or goes with the pages.
        os._exit(0)


def serve(channel: Socket, library: Library | None) -> None:
    """Take clients from the channel, one thread for each, until it is closed."""
    lock_down_child()
    _thread.stack_size(_STACK_BYTES)
    while True:
        message, fds = receive_message(channel, MAX_MESSAGE_BYTES)
        if not fds:
            return
        states = parse_message(message, fds[1:])
        _thread.start_new_thread(_serve_client, (open_socket(fds[0]), states, channel, library))


def _load() -> Library | None:
    try:
        return load_library()
    except UnusableLibraryError:
        return None


def _serve_client(
    connection: Socket, states: list[KeyState], channel: Socket, library: Library | None
) -> None:
    try:
        client = Client(connection)
        try:
            answer(client, states, library)
        finally:
            client.close()
    except TimeoutError:
        _log_stalled()
    except Exception:  # noqa: BLE001, S110 - a thread's edge: the client sees a broken answer, and nobody a traceback
        pass
    finally:
        connection.close()
        for one in states:
            if one.fd >= 0:
                os.close(one.fd)
        channel.send(DONE)


def _log_stalled() -> None:
    """Tell the container's log of the most likely mistake: the client itself sees a hang-up only."""
    log = EventLog(Settings(dict(os.environ)).log_level)
    advice = "read the answer while sending a body above 1 MiB: see Large bodies in docs/socket-api.md"
    log.write("client_stalled", WARNING, next=advice)


def answer(client: Client, states: list[KeyState], library: Library | None) -> None:
    """Answer one request, with a problem if the answer hasn't begun yet.

    Raises:
        TimeoutError: The client doesn't take its answer.
        OSError: The client is gone.
    """
    try:
        request = parse_cipher_head(client.read_head())
        candidates = decide_candidates(states, request.name, request.operation)
        if library:
            run(library, client, request, candidates)
        else:
            _send_problem(client, unusable())
    except UnusableLibraryError:
        _send_problem(client, unusable())
    except Problem as problem:
        _send_problem(client, problem)


def _send_problem(client: Client, problem: Problem) -> None:
    # An answer that has begun breaks off: without its last chunk no client takes it for whole.
    if not client.answering:
        client.send_problem(problem)

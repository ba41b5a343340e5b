"""One client of the cipher process: its request's bytes in, its answer's bytes out, in bounded memory.

Zone: plaintext of the app, in memory that is wiped; no byte of a body becomes an object of Python.
"""

from datakeys.sidecar.cipher_messages import (
    CONTINUE,
    LAST_CHUNK,
    MAX_HEAD_BYTES,
    Problem,
    build_problem,
    build_stream_head,
    malformed,
    parse_chunk_size,
    too_slow,
)
from datakeys.sidecar.descriptors import SHUT_WR
from datakeys.sidecar.locked_memory import Memory
from datakeys.sidecar.primitives import Socket

#: A client that neither sends nor takes a byte for so long is hung up on.
CLIENT_SECONDS = 30.0
#: More than the head: a body's first bytes may come with it.
_SCRATCH_BYTES = 16384
_MAX_LINE_BYTES = 4096
_DRAIN_SECONDS = 5.0
#: How much of a refused request is still taken, so that its client gets to reading the answer.
_MAX_DRAINED_BYTES = 1 << 26


class Client:
    """A connection whose request line began with ``POST``, which is read already."""

    __slots__ = ("_end", "_scratch", "_socket", "_start", "answering")

    def __init__(self, connection: Socket) -> None:
        self._socket = connection
        self._socket.settimeout(CLIENT_SECONDS)
        self._scratch = Memory(_SCRATCH_BYTES)
        self._start = self._end = 0
        self.answering = False

    def read_head(self) -> bytes:
        """Return the head without its empty line, as if it were whole.

        Raises:
            Problem: It doesn't end, or not in time.
        """
        return b"POST " + self._read_until(b"\r\n\r\n", MAX_HEAD_BYTES)

    def read_line(self) -> bytes:
        """Return a line of the framing of chunks without its end.

        Raises:
            Problem: See ``read_head``.
        """
        return self._read_until(b"\r\n", _MAX_LINE_BYTES)

    def read_into(self, place: memoryview) -> int:
        """Put at least one byte into ``place`` and return how many.

        Raises:
            Problem: The client stopped, or closed its side.
        """
        waiting = min(self._end - self._start, len(place))
        if waiting:
            place[:waiting] = self._scratch.view[self._start : self._start + waiting]
            self._start += waiting
            return waiting
        return self._receive(place)

    def ask_to_continue(self) -> None:
        """Tell a client that waits for it that its body is welcome."""
        self._send(CONTINUE)

    def send_chunk(self, chunk: memoryview) -> None:
        """Send a part of the body that isn't empty; before the first one the head goes out."""
        self._begin()
        self._send(b"%x\r\n" % len(chunk))
        self._send(chunk)
        self._send(b"\r\n")

    def send_end(self) -> None:
        """Send the last chunk: the answer is whole."""
        self._begin()
        self._send(LAST_CHUNK)

    def send_problem(self, problem: Problem) -> None:
        """Answer with a problem, and take what the client still sends, since it may read only after that."""
        self.answering = True
        self._send(build_problem(problem))
        self._socket.shutdown(SHUT_WR)
        self._socket.settimeout(_DRAIN_SECONDS)
        drained = 0
        try:
            while drained < _MAX_DRAINED_BYTES and (count := self._socket.recv_into(self._scratch.view)):
                drained += count
        except TimeoutError:
            return

    def close(self) -> None:
        """Hang up and wipe."""
        self._socket.close()
        self._scratch.close()

    def _begin(self) -> None:
        if not self.answering:
            self.answering = True
            self._send(build_stream_head())

    def _read_until(self, end: bytes, max_bytes: int) -> bytes:
        # At most a chunk's rest and a new line are in the scratch: both fit when moved to its begin.
        view = self._scratch.view
        count = self._end - self._start
        view[:count] = view[self._start : self._end]
        self._start, self._end = 0, count
        while True:
            found = self._scratch.find(end, self._end)
            if 0 <= found <= max_bytes:
                self._start = found + len(end)
                return bytes(view[:found])
            if self._end >= max_bytes:
                raise malformed("a head or a line is too long", 431)
            self._end += self._receive(view[self._end :])

    def _receive(self, place: memoryview) -> int:
        try:
            count = self._socket.recv_into(place)
        except TimeoutError:
            raise too_slow() from None
        if not count:
            raise malformed("the request ended too early")
        return count

    def _send(self, data: bytes | memoryview) -> None:
        # ``sendall`` would count the time of the whole, however much gets through.
        with memoryview(data) as rest:
            sent = 0
            while sent < len(rest):
                sent += self._socket.send(rest[sent:])


class Body:
    """The body of a request.

    Args:
        client: Whose head is read.
        length: In bytes; None if it comes in chunks.
    """

    __slots__ = ("_chunked", "_client", "_first", "_left")

    def __init__(self, client: Client, length: int | None) -> None:
        self._client = client
        self._chunked = length is None
        self._first = True
        self._left = length or 0

    def read_into(self, place: memoryview) -> int:
        """Fill ``place``, or as much of it as the body still has; return how many bytes.

        Raises:
            Problem: The body is malformed, or doesn't come.
        """
        done = 0
        while done < len(place) and not self.is_over():
            count = self._client.read_into(place[done : done + min(self._left, len(place) - done)])
            done += count
            self._left -= count
        return done

    def is_over(self) -> bool:
        """Return whether nothing of the body is left; waits for the begin of the next chunk.

        Raises:
            Problem: See ``read_into``.
        """
        while self._chunked and not self._left:
            if not self._first and self._client.read_line():
                raise malformed("a chunk is longer than its size")
            self._first = False
            self._left = parse_chunk_size(self._client.read_line())
            if not self._left:
                self._chunked = False
                while self._client.read_line():
                    pass  # trailers mean nothing here
        return not self._left

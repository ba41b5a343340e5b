"""Encrypt and decrypt one body, segment by segment, in a mebibyte of memory.

Zone: the data key for microseconds, the message key and a segment of plaintext as long as the request lasts,
all in memory that is wiped. Plaintext leaves only after its segment has been authenticated.
"""

import os

from datakeys.sidecar.cipher_messages import (
    CipherRequest,
    Problem,
    beyond,
    gone,
    invalid_ciphertext,
    not_ready,
    too_large,
    too_short,
    unknown,
)
from datakeys.sidecar.cipher_slots import BEYOND, ENCRYPT, GONE, READY, WAITING, KeyState
from datakeys.sidecar.cipher_stream import Body, Client
from datakeys.sidecar.libcrypto import TAG_BYTES, Library
from datakeys.sidecar.locked_memory import Memory
from datakeys.sidecar.streaming_aead import (
    HEADER_BYTES,
    MAX_CIPHERTEXT_BYTES,
    MIN_CIPHERTEXT_BYTES,
    MIN_KEY_BYTES,
    RANDOM_BYTES,
    SEGMENT_BYTES,
    InvalidCiphertextError,
    KeyPage,
    MessageCipher,
    build_header,
)


def run(library: Library, client: Client, request: CipherRequest, candidates: list[KeyState]) -> None:
    """Do what the request asks for and send the answer.

    Args:
        library: libcrypto.
        client: Its head is read.
        request: What the head says.
        candidates: See ``decide_candidates``.

    Raises:
        Problem: It isn't done; if the answer has begun already, it has to break off.
        TimeoutError: The client doesn't take its answer.
        OSError: The client is gone.
    """
    if (request.length or 0) > MAX_CIPHERTEXT_BYTES:
        raise too_large()
    usable = decide_usable(candidates)
    if request.expects_continue:
        client.ask_to_continue()
    exchange = Exchange(library, client, request)
    try:
        if request.operation == ENCRYPT:
            exchange.encrypt(usable[0])
        else:
            exchange.decrypt(usable)
    except InvalidCiphertextError:
        raise decide_failure(candidates) from None
    finally:
        exchange.close()
    client.send_end()


def decide_memory_bytes(length: int | None) -> int:
    """Return how much memory a body needs: all of it with header and tag, but at most one segment."""
    return SEGMENT_BYTES if length is None else min(length + MIN_CIPHERTEXT_BYTES, SEGMENT_BYTES)


def decide_usable(candidates: list[KeyState]) -> list[KeyState]:
    """Return the data keys that can be used now.

    Raises:
        Problem: There is no candidate, the first isn't delivered yet or not any more, or none is long enough.
    """
    if not candidates:
        raise unknown()
    problem = {GONE: gone, WAITING: not_ready, BEYOND: beyond}.get(candidates[0].state)
    if problem:
        raise problem()
    usable = [one for one in candidates if one.state == READY and one.size >= MIN_KEY_BYTES]
    if not usable:
        raise too_short()
    return usable


def decide_failure(candidates: list[KeyState]) -> Problem:
    """Return the answer when no usable data key fits: perhaps another one would."""
    states = {one.state for one in candidates}
    if WAITING in states:
        return not_ready()
    return beyond() if BEYOND in states else invalid_ciphertext()


class Exchange:
    """The work on one body, and the memory it takes."""

    __slots__ = ("_associated_data", "_body", "_cipher", "_client", "_library", "_memory")

    def __init__(self, library: Library, client: Client, request: CipherRequest) -> None:
        self._library = library
        self._client = client
        self._associated_data = request.associated_data
        self._body = Body(client, request.length)
        self._memory = Memory(decide_memory_bytes(request.length))
        self._cipher: MessageCipher | None = None

    def encrypt(self, key: KeyState) -> None:
        """Send the ciphertext of the body."""
        memory, body = self._memory, self._body
        header = build_header(os.urandom(RANDOM_BYTES))
        cipher = self._open_cipher(key, header, seals=True)
        memory.view[:HEADER_BYTES] = header
        start, last = HEADER_BYTES, False
        while not last:
            size = body.read_into(memory.view[start : memory.size - TAG_BYTES])
            last = body.is_over()
            cipher.seal(memory.address + start, size, last=last)
            self._client.send_chunk(memory.view[: start + size + TAG_BYTES])
            start = 0

    def decrypt(self, keys: list[KeyState]) -> None:
        """Send the plaintext of the body; its first segment tells which of the data keys it is.

        Raises:
            InvalidCiphertextError: A segment isn't authentic.
        """
        memory, body = self._memory, self._body
        size = body.read_into(memory.view)
        last = body.is_over()
        cipher = self._decrypt_first(keys, size, last=last)
        while not last:
            size = body.read_into(memory.view) - TAG_BYTES
            last = body.is_over()
            if size < 0 or not cipher.opens(memory.address, size, memory.address, last=last):
                raise InvalidCiphertextError
            self._client.send_chunk(memory.view[:size])

    def close(self) -> None:
        """Clear the message's key and wipe the memory."""
        if self._cipher:
            self._cipher.close()
        self._memory.close()

    def _decrypt_first(self, keys: list[KeyState], size: int, *, last: bool) -> MessageCipher:
        """Send the first segment's plaintext; the ciphertext must outlive the attempts that fail."""
        size -= MIN_CIPHERTEXT_BYTES
        if size < 0:
            raise InvalidCiphertextError
        header = bytes(self._memory.view[:HEADER_BYTES])
        source = self._memory.address + HEADER_BYTES
        target = Memory(size or 1)
        try:
            for key in keys:
                cipher = self._open_cipher(key, header, seals=False)
                if cipher.opens(source, size, target.address, last=last):
                    if size:
                        self._client.send_chunk(target.view)
                    return cipher
        finally:
            target.close()
        raise InvalidCiphertextError

    def _open_cipher(self, key: KeyState, header: bytes, *, seals: bool) -> MessageCipher:
        if self._cipher:
            self._cipher.close()
            self._cipher = None
        page = KeyPage()
        try:
            if not page.read(key.fd, key.size):
                raise gone()
            self._cipher = MessageCipher(self._library, page, header, self._associated_data, seals=seals)
        finally:
            page.close()
        return self._cipher

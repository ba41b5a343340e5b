"""The socket's ciphertext is Tink's streaming AEAD: vectors made by Tink, and libcrypto by ctypes."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datakeys.sidecar import libcrypto
from datakeys.sidecar.libcrypto import TAG_BYTES, Library, UnusableLibraryError, find_path, load_library
from datakeys.sidecar.locked_memory import Memory
from datakeys.sidecar.streaming_aead import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    InvalidCiphertextError,
    KeyPage,
    MessageCipher,
    build_header,
    build_nonce,
    parse_header,
)
from streaming_aead_reference import decrypt

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "tink-aes256-gcm-hkdf-1mb.json").read_text())


@pytest.fixture(scope="module")
def library() -> Library:
    """Give the interpreter's libcrypto."""
    return load_library()


def _open(
    library: Library, key: bytes, header: bytes, associated_data: bytes, *, seals: bool
) -> MessageCipher:
    fd = os.memfd_create("key")
    os.write(fd, key)
    page = KeyPage()
    assert page.read(fd, len(key))
    cipher = MessageCipher(library, page, header, associated_data, seals=seals)
    page.close()
    os.close(fd)
    return cipher


def _encrypt(library: Library, case: dict[str, Any]) -> bytes:
    """Encrypt a vector's plaintext with its own salt and nonce prefix."""
    size = case["plaintextBytes"]
    plaintext = (bytes(range(251)) * (size // 251 + 1))[:size]
    header = build_header(bytes.fromhex(case["salt"] + case["noncePrefix"]))
    cipher = _open(
        library, bytes.fromhex(case["key"]), header, bytes.fromhex(case["associatedData"]), seals=True
    )
    memory = Memory(SEGMENT_BYTES)
    result, start = header, 0
    while start < size or not size:
        count = min(size - start, SEGMENT_BYTES - TAG_BYTES - (0 if start else HEADER_BYTES))
        memory.view[:count] = plaintext[start : start + count]
        start += count
        cipher.seal(memory.address, count, last=start == size)
        result += bytes(memory.view[: count + TAG_BYTES])
        if not size:
            break
    cipher.close()
    memory.close()
    return result


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: str(case["plaintextBytes"]))
def test_ciphertext_is_what_tink_makes(library: Library, case: dict[str, Any]) -> None:
    """With the same salt and nonce prefix it is Tink's ciphertext, byte by byte."""
    ciphertext = _encrypt(library, case)
    assert len(ciphertext) == case["ciphertextBytes"]
    assert hashlib.sha256(ciphertext).hexdigest() == case["ciphertextSha256"]
    if "ciphertext" in case:
        assert ciphertext.hex() == case["ciphertext"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: str(case["plaintextBytes"]))
def test_reference_of_the_tests_agrees_with_tink(library: Library, case: dict[str, Any]) -> None:
    """What the other tests compare with reads Tink's ciphertext."""
    plaintext = decrypt(
        bytes.fromhex(case["key"]), _encrypt(library, case), bytes.fromhex(case["associatedData"])
    )
    size = case["plaintextBytes"]
    assert plaintext == (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("case", VECTORS["cases"][:3], ids=lambda case: str(case["plaintextBytes"]))
def test_every_flipped_bit_is_noticed(library: Library, case: dict[str, Any]) -> None:
    """Header, ciphertext and tag: no bit can change; nor the associated data, the counter, the end mark."""
    key, associated_data = bytes.fromhex(case["key"]), bytes.fromhex(case["associatedData"])
    ciphertext = bytes.fromhex(case["ciphertext"])
    memory = Memory(len(ciphertext))

    def opens(changed: bytes, associated_data: bytes = associated_data, *, last: bool = True) -> bool:
        memory.view[: len(changed)] = changed
        try:
            cipher = _open(library, key, changed[:HEADER_BYTES], associated_data, seals=False)
        except InvalidCiphertextError:
            return False
        source = memory.address + HEADER_BYTES
        authentic = cipher.opens(source, len(changed) - HEADER_BYTES - TAG_BYTES, source, last=last)
        cipher.close()
        return authentic

    assert opens(ciphertext)
    for bit in range(len(ciphertext) * 8):
        changed = bytearray(ciphertext)
        changed[bit // 8] ^= 1 << bit % 8
        assert not opens(bytes(changed)), bit
    assert not opens(ciphertext, associated_data + b"x")
    assert not opens(ciphertext, last=False)
    memory.close()


def test_segments_have_their_places() -> None:
    """The nonce is prefix, counter and end mark; after 2^32 segments there is no nonce left."""
    assert build_nonce(b"prefix!", 258, last=False) == b"prefix!\x00\x00\x01\x02\x00"
    assert build_nonce(b"prefix!", 2**32 - 1, last=True) == b"prefix!\xff\xff\xff\xff\x01"
    with pytest.raises(OverflowError):
        build_nonce(b"prefix!", 2**32, last=True)


@pytest.mark.parametrize("header", [b"", b"\x28", b"\x28" * 39, b"\x18" + bytes(39), b"\x28" * 41])
def test_other_headers_are_refused(header: bytes) -> None:
    """Length and first byte must be 40."""
    with pytest.raises(InvalidCiphertextError):
        parse_header(header)


def test_key_that_ends_while_it_is_read_is_not_used() -> None:
    """A file that became shorter meanwhile gives no key, whatever was read of it."""
    fd = os.memfd_create("key")
    os.write(fd, bytes(32))
    page = KeyPage()
    assert page.read(fd, 32)
    assert not page.read(fd, 33)
    os.ftruncate(fd, 1)
    assert not page.read(fd, 32)
    page.close()
    os.close(fd)


def test_memory_is_wiped_when_it_is_given_back() -> None:
    """What was in it is zero before the pages go, also while an exception still knows a part of it."""
    memory = Memory(8192, locked=True)
    memory.view[:] = b"x" * 8192
    part = memory.view[100:200]
    memory.close()
    assert bytes(part) == bytes(100)


def test_loaded_libcrypto_is_found_without_a_compiler() -> None:
    """The memory map names it, whatever its version; paths may have blanks."""
    line = "7f8dcae00000-7f8dcaec5000 r--p 00000000 fe:00 326295   "
    assert find_path(f"{line}/lib/libssl.so.3\n{line}/lib/libcrypto.so.1.1\n") == "/lib/libcrypto.so.1.1"
    assert find_path(f"{line}/my lib/libcrypto-3f2a.so.3\n") == "/my lib/libcrypto-3f2a.so.3"
    assert find_path(f"{line}\n{line}[heap]\n{line}/libcrypto.so.3/other.so\n") == ""


def test_library_that_lacks_something_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a missing file nor another library passes, nor one that gives a wrong tag."""
    monkeypatch.setattr(libcrypto, "_find_candidates", lambda: ["/nowhere/libcrypto.so.3", "libc.so.6"])
    with pytest.raises(UnusableLibraryError):
        load_library()


@pytest.mark.parametrize(
    "function", ["EVP_CipherInit_ex", "EVP_CipherFinal_ex", "EVP_CIPHER_CTX_ctrl", "HMAC"]
)
def test_refusing_library_is_told_apart(library: Library, function: str) -> None:
    """A provider that refuses an algorithm, as FIPS modules do, is an error and never an answer."""

    class Refusing:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            return (lambda *_: 0) if name == function else getattr(library.functions, name)

    refusing = object.__new__(Library)
    refusing.functions = Refusing()  # type: ignore[assignment]
    refusing.aes, refusing.sha256 = library.aes, library.sha256
    memory = Memory(64)

    def seal() -> None:
        cipher = _open(refusing, bytes(32), build_header(bytes(39)), b"", seals=True)
        cipher.seal(memory.address, 1, last=True)

    with pytest.raises(UnusableLibraryError):
        seal()
    memory.close()


def test_wrong_known_answer_is_noticed(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that computes something else is not used."""
    monkeypatch.setattr(libcrypto, "_KNOWN_TAG", bytes(16))
    with pytest.raises(UnusableLibraryError):
        libcrypto.check(library)

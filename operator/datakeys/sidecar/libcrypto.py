"""AES-256-GCM and HMAC of the libcrypto that this interpreter is linked to, called by ``ctypes``.

Zone: key material by its address only, never as an object of Python, which couldn't be wiped. The standard
library has no AES, and the sidecar may use nothing else; but ``ssl`` and ``hashlib`` bring libcrypto along.
Source: OpenSSL manual pages EVP_EncryptInit(3), HMAC(3), OPENSSL_cleanse(3), the same in 1.1.1 and 3.x.
"""

# pathlib costs more start time than this module does.
# ruff: noqa: PTH123

import ctypes
from typing import Final

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
DIGEST_BYTES: Final = 32

_GET_TAG: Final = 0x10
_SET_TAG: Final = 0x11
_FALLBACK_NAMES: Final = ("libcrypto.so.3", "libcrypto.so.1.1")

_POINTER = ctypes.c_void_p
_INT = ctypes.c_int
_SIZE = ctypes.c_size_t
#: Function -> (type of the result, types of the arguments).
_PROTOTYPES: Final = {
    "EVP_aes_256_gcm": (_POINTER, ()),
    "EVP_sha256": (_POINTER, ()),
    "EVP_CIPHER_CTX_new": (_POINTER, ()),
    "EVP_CIPHER_CTX_free": (None, (_POINTER,)),
    "EVP_CIPHER_CTX_ctrl": (_INT, (_POINTER, _INT, _INT, _POINTER)),
    "EVP_CipherInit_ex": (_INT, (_POINTER, _POINTER, _POINTER, _POINTER, ctypes.c_char_p, _INT)),
    "EVP_CipherUpdate": (_INT, (_POINTER, _POINTER, ctypes.POINTER(_INT), _POINTER, _INT)),
    "EVP_CipherFinal_ex": (_INT, (_POINTER, _POINTER, ctypes.POINTER(_INT))),
    "HMAC": (_POINTER, (_POINTER, _POINTER, _INT, _POINTER, _SIZE, _POINTER, _POINTER)),
    "OPENSSL_cleanse": (None, (_POINTER, _SIZE)),
}
#: Of no bytes, a zero key and a zero nonce. Source: GCM submission to NIST, appendix B, test case 13.
_KNOWN_TAG: Final = bytes.fromhex("530f8afbc74536b9a963b4f1c4cb738b")


class UnusableLibraryError(Exception):
    """There is no libcrypto, it lacks a function, or it doesn't let AES-256-GCM be used."""


class Library:
    """The functions of libcrypto that are needed here."""

    __slots__ = ("aes", "functions", "sha256")

    def __init__(self, path: str) -> None:
        self.functions = ctypes.CDLL(path)
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(self.functions, name)
            function.restype, function.argtypes = result, arguments
        self.aes = self.functions.EVP_aes_256_gcm()
        self.sha256 = self.functions.EVP_sha256()

    def write_hmac(self, key: int, key_bytes: int, data: int, data_bytes: int, target: int) -> None:
        """Write the HMAC-SHA256 (32 bytes) of the data to ``target``; all three are addresses.

        Raises:
            UnusableLibraryError: libcrypto refuses, as a FIPS provider may.
        """
        if not self.functions.HMAC(self.sha256, key, key_bytes, data, data_bytes, target, None):
            raise UnusableLibraryError

    def wipe(self, address: int, size: int) -> None:
        """Overwrite ``size`` bytes."""
        self.functions.OPENSSL_cleanse(address, size)


class Gcm:
    """AES-256-GCM under one key, in one direction; ``close`` clears the key schedule.

    Args:
        library: See ``load_library``.
        key: Address of 32 bytes, not needed any more afterwards.
        seals: True to encrypt, False to decrypt.

    Raises:
        UnusableLibraryError: libcrypto refuses.
    """

    __slots__ = ("_context", "_done", "_library", "_seals")

    def __init__(self, library: Library, key: int, *, seals: bool) -> None:
        self._library = library.functions
        self._seals = int(seals)
        self._done = _INT()
        self._context = self._library.EVP_CIPHER_CTX_new()
        if not self._context or not self._library.EVP_CipherInit_ex(
            self._context, library.aes, None, key, None, self._seals
        ):
            self.close()
            raise UnusableLibraryError

    def seal(self, nonce: bytes, address: int, size: int, tag: int) -> None:
        """Encrypt ``size`` bytes in place and write the 16 bytes of the tag to the address ``tag``.

        Raises:
            UnusableLibraryError: libcrypto refuses.
        """
        if not (
            self._run(nonce, address, size, address)
            and self._finish(address)
            and self._library.EVP_CIPHER_CTX_ctrl(self._context, _GET_TAG, TAG_BYTES, tag)
        ):
            raise UnusableLibraryError

    def open(self, nonce: bytes, source: int, size: int, target: int) -> bool:
        """Decrypt ``size`` bytes to ``target`` (``source`` itself is allowed); the tag follows the source.

        Returns:
            Whether it is authentic; if not, what lies at ``target`` must not be given out.
        """
        return (
            self._run(nonce, source, size, target)
            and bool(self._library.EVP_CIPHER_CTX_ctrl(self._context, _SET_TAG, TAG_BYTES, source + size))
            and self._finish(target)
        )

    def close(self) -> None:
        """Clear and free the context."""
        self._library.EVP_CIPHER_CTX_free(self._context)
        self._context = None

    def _run(self, nonce: bytes, source: int, size: int, target: int) -> bool:
        if not self._library.EVP_CipherInit_ex(self._context, None, None, None, nonce, self._seals):
            return False
        return not size or bool(
            self._library.EVP_CipherUpdate(self._context, target, ctypes.byref(self._done), source, size)
        )

    def _finish(self, target: int) -> bool:
        # GCM has no padding: nothing is written.
        return bool(self._library.EVP_CipherFinal_ex(self._context, target, ctypes.byref(self._done)))


def find_path(maps: str) -> str:
    """Return the path of the libcrypto that is loaded, or "".

    Args:
        maps: Text of ``/proc/self/maps``. Source: proc(5).
    """
    for line in maps.splitlines():
        path = line[line.find("/") :] if "/" in line else ""
        if path.rpartition("/")[2].startswith("libcrypto"):
            return path
    return ""


def load_library() -> Library:
    """Return the libcrypto that the interpreter's own modules use, after it has shown that it can do GCM.

    Raises:
        UnusableLibraryError: See there.
    """
    for path in _find_candidates():
        try:
            library = Library(path)
        except (OSError, AttributeError):
            continue
        check(library)
        return library
    raise UnusableLibraryError


def check(library: Library) -> None:
    """Let the library encrypt what is known.

    Raises:
        UnusableLibraryError: It refuses, or it does something else.
    """
    memory = (ctypes.c_char * (KEY_BYTES + TAG_BYTES))()
    address = ctypes.addressof(memory)
    gcm = Gcm(library, address, seals=True)
    gcm.seal(bytes(NONCE_BYTES), address, 0, address + KEY_BYTES)
    gcm.close()
    if memory.raw[KEY_BYTES:] != _KNOWN_TAG:
        raise UnusableLibraryError


def _find_candidates() -> list[str]:
    try:
        # Loads libcrypto, if it isn't linked into the interpreter.
        import _hashlib  # noqa: F401, PLC0415
    except ImportError:
        return list(_FALLBACK_NAMES)
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        loaded = find_path(file.read())
    return [loaded] if loaded else list(_FALLBACK_NAMES)

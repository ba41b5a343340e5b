"""Memory for key material and bodies: outside Python's heap, out of dumps, wiped when it is no longer needed.

Zone: plaintext of this pod, in the cipher process only.
"""

import ctypes
import mmap

_LIBC = ctypes.CDLL(None)
_LIBC.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Memory:
    """Whole pages of their own; ``view`` and ``address`` are the same bytes.

    Args:
        size: Bytes.
        locked: Keep it off swap if the limit on locked memory (RLIMIT_MEMLOCK) allows it. Meant for keys:
            bodies would use that limit up.
    """

    __slots__ = ("_anchor", "_map", "address", "size", "view")

    def __init__(self, size: int, *, locked: bool = False) -> None:
        self._map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map.madvise(mmap.MADV_DONTDUMP)
        self._anchor = (ctypes.c_char * size).from_buffer(self._map)
        self.address = ctypes.addressof(self._anchor)
        self.view = memoryview(self._map)
        self.size = size
        if locked:
            _LIBC.mlock(self.address, size)

    def find(self, pattern: bytes, end: int) -> int:
        """Return where a pattern begins before ``end``, or -1."""
        return self._map.find(pattern, 0, end)

    def close(self) -> None:
        """Wipe it and give the pages back."""
        ctypes.memset(self.address, 0, self.size)
        self.view.release()
        del self._anchor
        try:
            self._map.close()
        except BufferError:
            # An exception on its way still knows a part of the view: the pages go with it.
            return

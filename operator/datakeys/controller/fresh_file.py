"""A file that others replace: a projected token, a CA bundle.

Zone: tokens pass through, nothing logs them.
"""

import os
import ssl
from pathlib import Path


class FreshFile:
    """A file's text, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = os.fspath(path)
        self._stamp: tuple[int, int, int] | None = None
        self._text = ""

    def read(self) -> str:
        """Return the text as it is now, without white space at the ends.

        Raises:
            OSError: The file can't be read.
        """
        info = os.stat(self._name)  # noqa: PTH116 - for every call; a Path costs more than the call
        stamp = (info.st_mtime_ns, info.st_ino, info.st_size)
        if stamp != self._stamp:
            self._text = self._path.read_text().strip()
            self._stamp = stamp
        return self._text


class FreshTlsContext:
    """A client-side TLS context that trusts a file's certificates, made anew when the file has changed."""

    def __init__(self, ca_file: Path) -> None:
        self._file = FreshFile(ca_file)
        self._pem = ""
        self._context: ssl.SSLContext | None = None

    def get(self) -> ssl.SSLContext:
        """Return the context.

        Raises:
            OSError: The file can't be read, or it holds no certificate (``ssl.SSLError`` is an OSError).
        """
        pem = self._file.read()
        if self._context is None or pem != self._pem:
            context = ssl.create_default_context(cadata=pem)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._context, self._pem = context, pem
        return self._context

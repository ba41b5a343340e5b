"""The endpoint's way to the key service: TLS connections that are kept and used again.

Zone: this pod's token, and whatever the app encrypts or decrypts, pass through; nothing is kept or logged.
"""

# pathlib costs more memory and start time than this module does.
# ruff: noqa: PTH123

import ssl
import threading
import time
from typing import Final

from datakeys.sidecar.advice import Failure
from datakeys.sidecar.endpoint_messages import CONTENT_TYPE
from datakeys.sidecar.https_connection import Answer, HttpsConnection, ProtocolError
from datakeys.sidecar.tls import build_context

#: A list of a thousand aliases or grants.
_MAX_ANSWER_BYTES: Final = 1 << 20
#: Less than the 60 seconds after which AWS SDKs give up; a pair of RSA keys may take some of them.
EXCHANGE_SECONDS: Final = 30.0
#: The key service ends an idle connection after 75 seconds.
_IDLE_SECONDS: Final = 50.0
_MAX_IDLE: Final = 8


class Upstream:
    """Forwards one operation at a time per thread; safe for many threads."""

    def __init__(
        self, url: str, *, ca_file: str, token_file: str, exchange_seconds: float = EXCHANGE_SECONDS
    ) -> None:
        self._url = url
        self._ca_file = ca_file
        self._token_file = token_file
        self._exchange_seconds = exchange_seconds
        self._lock = threading.Lock()
        self._idle: list[tuple[float, HttpsConnection]] = []

    def reach(self) -> None:
        """Connect once and check the key service's certificate.

        Raises:
            Failure: As :meth:`forward`.
        """
        try:
            self._connect().close()
        except OSError as error:
            raise _name(error) from None

    def forward(self, operation: str, body: bytes) -> Answer:
        """Send one operation under the pod's own token.

        Raises:
            Failure: With a code of :mod:`datakeys.sidecar.advice`; the key service gave no answer.
        """
        headers = {
            "Authorization": f"Bearer {self._read_token()}",
            "Content-Type": CONTENT_TYPE,
            "X-Amz-Target": f"TrentService.{operation}",
        }
        deadline = time.monotonic() + self._exchange_seconds
        try:
            return self._exchange(headers, body, deadline)
        except OSError as error:
            raise _name(error) from None
        except ProtocolError:
            raise Failure("InvalidResponse", retryable=True) from None

    def _exchange(self, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        """Use a kept connection; if the key service had just closed it, use a new one, once."""
        kept = self._take()
        if kept:
            try:
                return self._use(kept, headers, body, deadline)
            except ConnectionError:
                if kept.has_answer_begun:
                    raise
        return self._use(self._connect(), headers, body, deadline)

    def _use(self, used: HttpsConnection, headers: dict[str, str], body: bytes, deadline: float) -> Answer:
        try:
            answer = used.exchange(headers, body, deadline=deadline)
        except BaseException:
            used.close()
            raise
        if answer.closes:
            used.close()
        else:
            self._keep(used)
        return answer

    def _connect(self) -> HttpsConnection:
        return HttpsConnection(self._url, build_context(self._ca_file), max_body_bytes=_MAX_ANSWER_BYTES)

    def _take(self) -> HttpsConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since, connection = self._idle.pop()
            if time.monotonic() - since < _IDLE_SECONDS and not connection.has_input:
                return connection
            connection.close()

    def _keep(self, connection: HttpsConnection) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), connection))
            surplus = self._idle.pop(0)[1] if len(self._idle) > _MAX_IDLE else None
        if surplus:
            surplus.close()

    def _read_token(self) -> str:
        """Read the token anew: the kubelet replaces it long before it ends."""
        try:
            with open(self._token_file, encoding="ascii") as file:
                token = file.read(65536).strip()
        except (OSError, ValueError):
            token = ""
        if not token.isprintable() or not token:
            raise Failure("MissingInput", retryable=True) from None
        return token


def _name(error: OSError) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure("CertificateNotTrusted", retryable=True)
    return Failure("KeyServiceUnreachable", retryable=True)

"""The sidecar's client of the key service: Decrypt and nothing else.

Zone: plaintext of this pod passes through, inside the child process only.
"""

# pathlib costs more memory and start time than this module does.
# ruff: noqa: PTH123

import base64
import binascii
import http.client
import json
import ssl
from typing import Final
from urllib.parse import urlsplit

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import error_from_code
from datakeys.sidecar.advice import Failure

_TIMEOUT_SECONDS: Final = 5.0
_MAX_ANSWER_BYTES: Final = 65536
_MAX_PLAINTEXT_BYTES: Final = 4096


class KeyServiceClient:
    """Calls one key service over one TLS connection; a new one is made after any failure."""

    def __init__(self, url: str, *, ca_file: str, token_file: str) -> None:
        address = urlsplit(url)
        self._host = address.hostname or ""
        self._port = address.port or 443
        self._ca_file = ca_file
        self._token_file = token_file
        self._connection: http.client.HTTPSConnection | None = None

    def decrypt(self, data_key: EncryptedDataKey) -> bytes:
        """Return the plaintext, 1..4096 bytes. Source: AWS KMS API, Decrypt.

        Raises:
            Failure: With the KMS error name, or a code of :mod:`datakeys.sidecar.advice`.
        """
        body = json.dumps(
            {
                "CiphertextBlob": base64.b64encode(data_key.ciphertext_blob).decode(),
                "EncryptionContext": dict(data_key.encryption_context),
                "KeyId": data_key.key_arn,
            }
        )
        try:
            status, raw = self._post(body.encode())
        except ssl.SSLCertVerificationError:
            self.close()
            raise Failure("CertificateNotTrusted", retryable=True) from None
        except (OSError, http.client.HTTPException):
            self.close()
            raise Failure("KeyServiceUnreachable", retryable=True) from None
        return _parse_answer(status, raw)

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes) -> tuple[int, bytes]:
        headers = {
            "Authorization": f"Bearer {self._read_token()}",
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "TrentService.Decrypt",
        }
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=_TIMEOUT_SECONDS, context=self._build_context()
            )
        self._connection.request("POST", "/", body, headers)
        response = self._connection.getresponse()
        raw = response.read(_MAX_ANSWER_BYTES)
        if response.read(1):
            self.close()
            raise Failure("InvalidResponse", retryable=True)
        return response.status, raw

    def _read_token(self) -> str:
        try:
            with open(self._token_file, encoding="ascii") as file:
                return file.read().strip()
        except (OSError, ValueError):
            raise Failure("MissingInput", retryable=True) from None

    def _build_context(self) -> ssl.SSLContext:
        """Return a context that trusts the cluster's key service CA and nothing else, TLS 1.3 only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self._ca_file)
        except OSError:
            raise Failure("MissingInput", retryable=True) from None
        return context


def _parse_answer(status: int, raw: bytes) -> bytes:
    try:
        answer = json.loads(raw)
    except ValueError:
        raise Failure("InvalidResponse", retryable=True) from None
    if status != http.client.OK:
        raise _build_failure(status, answer)
    return _decode_plaintext(answer)


def _decode_plaintext(answer: object) -> bytes:
    """Return the plaintext of Decrypt's answer, 1..4096 bytes.

    Raises:
        Failure: ``InvalidResponse``. Source: AWS KMS API, Decrypt, response element Plaintext.
    """
    text = answer.get("Plaintext") if isinstance(answer, dict) else None
    if isinstance(text, str):
        try:
            plaintext = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            plaintext = b""
        if 1 <= len(plaintext) <= _MAX_PLAINTEXT_BYTES:
            return plaintext
    raise Failure("InvalidResponse", retryable=True) from None


def _build_failure(status: int, answer: object) -> Failure:
    code = str(answer.get("__type", "")) if isinstance(answer, dict) else ""
    error = error_from_code(code, "")
    return Failure(error.code, retryable=error.retryable or status >= http.client.INTERNAL_SERVER_ERROR)

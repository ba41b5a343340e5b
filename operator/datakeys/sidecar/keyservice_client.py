"""The sidecar's client of the key service: Decrypt and nothing else.

Zone: plaintext of this pod passes through, inside the child process only.
"""

import binascii
import json
import ssl
from http import HTTPStatus
from typing import Final

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import error_from_code
from datakeys.sidecar.advice import Failure
from datakeys.sidecar.https_connection import HttpsConnection, ProtocolError
from datakeys.sidecar.tls import build_context

# pathlib costs more start time than this module does.
# ruff: noqa: PTH123

_MAX_PLAINTEXT_BYTES: Final = 4096


class KeyServiceClient:
    """Calls one key service over one TLS connection; a new one is made after any failure."""

    def __init__(self, url: str, *, ca_file: str, token_file: str) -> None:
        self._url = url
        self._ca_file = ca_file
        self._token_file = token_file
        self._connection: HttpsConnection | None = None

    def decrypt(self, data_key: EncryptedDataKey) -> bytes:
        """Return the plaintext, 1..4096 bytes. Source: AWS KMS API, Decrypt.

        Raises:
            Failure: With the KMS error name, or a code of :mod:`datakeys.sidecar.advice`.
        """
        body = json.dumps(
            {
                "CiphertextBlob": binascii.b2a_base64(data_key.ciphertext_blob, newline=False).decode(),
                "EncryptionContext": dict(data_key.encryption_context),
                "KeyId": data_key.key_arn,
            }
        )
        try:
            status, raw = self._post(body.encode())
        except ssl.SSLCertVerificationError:
            self.close()
            raise Failure("CertificateNotTrusted", retryable=True) from None
        except OSError:
            self.close()
            raise Failure("KeyServiceUnreachable", retryable=True) from None
        except ProtocolError:
            self.close()
            raise Failure("InvalidResponse", retryable=True) from None
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
            self._connection = HttpsConnection(self._url, build_context(self._ca_file))
        return self._connection.post(headers, body)

    def _read_token(self) -> str:
        try:
            with open(self._token_file, encoding="ascii") as file:
                return file.read().strip()
        except (OSError, ValueError):
            raise Failure("MissingInput", retryable=True) from None


def _parse_answer(status: int, raw: bytes) -> bytes:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        raise Failure("InvalidResponse", retryable=True) from None
    if status != HTTPStatus.OK:
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
            plaintext = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            plaintext = b""
        if 1 <= len(plaintext) <= _MAX_PLAINTEXT_BYTES:
            return plaintext
    raise Failure("InvalidResponse", retryable=True) from None


def _build_failure(status: int, answer: object) -> Failure:
    code = str(answer.get("__type", "")) if isinstance(answer, dict) else ""
    error = error_from_code(code, "")
    return Failure(error.code, retryable=error.retryable or status >= HTTPStatus.INTERNAL_SERVER_ERROR)

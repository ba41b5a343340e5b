"""One JSON line per API verb, written before the reply; no record, no reply.

Zone: no secrets. Fields follow CloudTrail. A ciphertext blob appears as SHA-256 only. The line is built by
hand: this is the hot path, and all parts but the context are known to need no escaping or are escaped once.
Source: AWS KMS Developer Guide, "Logging AWS KMS API calls with AWS CloudTrail".
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import Final

from datakeys.contract.errors import AuditError
from datakeys.keyservice.authz.principal import Principal

STREAM: Final = "kms.audit"


@dataclass(slots=True)
class AuditRecord:
    """What happened in one call.

    Attributes:
        request_id: UUID text.
        operation: The API verb.
        source: ``address:port`` of the peer.
        principal: None if the caller couldn't be authenticated.
        account: The account the caller acted for, or empty.
        key_id: ARN of the key, or what the caller wrote if it wasn't resolved, or empty.
        context: The encryption context.
        blob: The ciphertext blob that came or went, or empty.
        dry_run: Whether nothing was to be done.
        source_key_id: For ReEncrypt the source key, as ``key_id`` is the destination key; else empty.
        source_context: For ReEncrypt the source's encryption context, as ``context`` is the destination's.
        error_code: Empty on success.
        reason: Why it was allowed or denied, for operators only.
    """

    request_id: str
    operation: str
    source: str
    principal: Principal | None
    account: str
    key_id: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    blob: bytes = b""
    dry_run: bool = False
    source_key_id: str = ""
    source_context: Mapping[str, str] = field(default_factory=dict)
    error_code: str = ""
    reason: str = ""


class AuditLog:
    """Writes records to a file descriptor with one system call each."""

    def __init__(self, region: str, *, fd: int = 1, clock: Callable[[], float] = time.time) -> None:
        self._fd = fd
        self._clock = clock
        self._head = (
            f'{{"stream":"{STREAM}","eventVersion":"1.0","eventSource":"kms","awsRegion":{json.dumps(region)}'
        )
        self._lock = threading.Lock()
        self._torn = False
        self._second = -1
        self._second_text = ""

    def write(self, record: AuditRecord) -> None:
        """Write one record.

        Raises:
            AuditError: It couldn't be written completely.
        """
        with self._lock:
            self._write_line(self._build_line(record).encode())

    def _build_line(self, record: AuditRecord) -> str:
        line = (
            f'{self._head},"eventTime":"{self._format_time()}","eventID":"{record.request_id}"'
            f',"eventName":"{record.operation}","sourceIPAddress":{quote(record.source)}'
            f',"userIdentity":{_format_identity(record.principal)}'
            f',"recipientAccountId":{quote(record.account)},"keyId":{quote(record.key_id)}'
        )
        if record.context:
            line += f',"encryptionContext":{_format_context(record.context)}'
        if record.source_key_id:
            line += f',"sourceKeyId":{quote(record.source_key_id)}'
        if record.source_context:
            line += f',"sourceEncryptionContext":{_format_context(record.source_context)}'
        if record.blob:
            line += f',"ciphertextBlobSha256":"{hashlib.sha256(record.blob).hexdigest()}"'
        if record.dry_run:
            line += ',"dryRun":true'
        if record.error_code:
            line += f',"errorCode":"{record.error_code}"'
        if record.reason:
            line += f',"reason":{quote(record.reason)}'
        return line + "}\n"

    def _format_time(self) -> str:
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now - second) * 1000):03d}Z"

    def _write_line(self, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:] if written else line)
        except OSError:
            self._torn = self._torn or written > 0
            raise AuditError("the audit record can't be written") from None
        self._torn = False


def _format_context(context: Mapping[str, str]) -> str:
    return "{" + ",".join([f"{quote(key)}:{quote(value)}" for key, value in context.items()]) + "}"


@lru_cache(maxsize=4096)
def _format_identity(principal: Principal | None) -> str:
    if principal is None:
        return '{"type":"Unknown"}'
    return json.dumps(
        {
            "type": principal.kind,
            "userName": principal.user_name,
            "uid": principal.service_account_uid,
            "podName": principal.pod_name,
            "podUid": principal.pod_uid,
        },
        separators=(",", ":"),
    )

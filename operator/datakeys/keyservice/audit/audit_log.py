"""One JSON line per API verb, written before the reply; no record, no reply.

Zone: no secrets. Fields follow CloudTrail. A ciphertext blob appears as SHA-256 only. The parts that
are the same for every call, and for every call of a caller, are put into JSON once.
Source: AWS KMS Developer Guide, "Logging AWS KMS API calls with AWS CloudTrail".
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import orjson

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
        head = {"stream": STREAM, "eventVersion": "1.0", "eventSource": "kms", "awsRegion": region}
        self._head = orjson.dumps(head)[:-1] + b","
        self._lock = threading.Lock()
        self._torn = False
        self._millisecond = -1
        self._time_text = ""

    def write(self, record: AuditRecord) -> None:
        """Write one record.

        Raises:
            AuditError: It couldn't be written completely, or holds a lone surrogate.
        """
        with self._lock:
            self._write_line(self._build_line(record))

    def _build_line(self, record: AuditRecord) -> bytes:
        fields: dict[str, Any] = {
            "eventTime": self._format_time(),
            "eventID": record.request_id,
            "eventName": record.operation,
            "sourceIPAddress": record.source,
            "userIdentity": _format_identity(record.principal),
            "recipientAccountId": record.account,
            "keyId": record.key_id,
        }
        if record.context:
            fields["encryptionContext"] = record.context
        if record.source_key_id:
            fields["sourceKeyId"] = record.source_key_id
        if record.source_context:
            fields["sourceEncryptionContext"] = record.source_context
        if record.blob:
            fields["ciphertextBlobSha256"] = hashlib.sha256(record.blob).hexdigest()
        if record.dry_run:
            fields["dryRun"] = True
        if record.error_code:
            fields["errorCode"] = record.error_code
        if record.reason:
            fields["reason"] = record.reason
        try:
            return self._head + orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)[1:]
        except orjson.JSONEncodeError:
            raise AuditError("the audit record has no JSON form") from None

    def _format_time(self) -> str:
        millisecond = int(self._clock() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            seconds, rest = divmod(millisecond, 1000)
            self._time_text = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}Z"
        return self._time_text

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


@lru_cache(maxsize=4096)
def _format_identity(principal: Principal | None) -> orjson.Fragment:
    if principal is None:
        return orjson.Fragment(b'{"type":"Unknown"}')
    identity = {
        "type": principal.kind,
        "userName": principal.user_name,
        "uid": principal.service_account_uid,
        "podName": principal.pod_name,
        "podUid": principal.pod_uid,
    }
    return orjson.Fragment(orjson.dumps(identity))

"""Open a ciphertext: what Decrypt and ReEncrypt have in common.

Zone: the plaintext passes and isn't kept. Source: kms-semantics section 3, with its order: parse blob,
resolve key, IncorrectKey, authorisation, state, usage, material, tag. A caller without access never learns
whether the tag was right.
"""

from dataclasses import dataclass, field
from typing import Final

from datakeys.contract.encrypted_data_key import MAX_CIPHERTEXT_BYTES
from datakeys.contract.errors import (
    IncorrectKeyError,
    InvalidCiphertextError,
    ValidationError,
)
from datakeys.keyservice.material.ciphertext_blob import BLOB_FORMAT_V1, CiphertextBlob, parse_blob
from datakeys.keyservice.operations.access import authorize, require_state
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import SYMMETRIC_DEFAULT, require_algorithm
from datakeys.keyservice.operations.key_lookup import deny_unknown, find_key, find_record
from datakeys.keyservice.operations.key_metadata import encryption_algorithms
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import KeyRecord

IGNORE_CIPHERTEXT: Final = "IGNORE_CIPHERTEXT"


@dataclass(slots=True)
class CiphertextSource:
    """A ciphertext and what the caller says of it. ``blob`` is empty if a dry run ignores the ciphertext."""

    blob: bytes = field(repr=False)
    key_id: str
    context: dict[str, str]
    context_bytes: bytes
    algorithm: str


@dataclass(slots=True)
class Opened:
    """An opened ciphertext; ``material_id`` is empty for an asymmetric key."""

    record: KeyRecord
    key_arn: str
    plaintext: bytes = field(repr=False)
    material_id: str


def read_blob(members: Members, key_id_member: str, *, dry_run: bool) -> bytes:
    """Return CiphertextBlob; a dry run may leave it out with the modifier IGNORE_CIPHERTEXT.

    Raises:
        SerializationError: A member has the wrong JSON type.
    """
    if IGNORE_CIPHERTEXT not in members.enum_list("DryRunModifiers", (IGNORE_CIPHERTEXT,)):
        return members.blob("CiphertextBlob", maximum=MAX_CIPHERTEXT_BYTES)
    if not dry_run:
        members.fail(
            f"Value '[{IGNORE_CIPHERTEXT}]' at 'dryRunModifiers' failed to satisfy constraint: "
            "Member must be null if dryRun isn't true"
        )
    if not members.has(key_id_member):
        members.fail_null(key_id_member)
    return b""


def open_ciphertext(
    service: Service,
    call: Call,
    operation: str,
    source: CiphertextSource,
    *,
    grant_tokens: list[str],
) -> Opened:
    """Return the plaintext of a ciphertext for whom the policy chain lets have it.

    If a dry run ignores the ciphertext, everything else is checked and the plaintext is empty.

    Raises:
        InvalidCiphertextError: It can't be parsed, or its tag is wrong; one error for all causes.
        NotFoundError: The key that the caller names doesn't exist.
        IncorrectKeyError: The ciphertext is of another key than the caller names.
        AccessDeniedError: Not allowed, or the ciphertext names an unknown key.
        KeyDisabledError, KeyStateError: The key's state forbids it, or its material is gone.
        InvalidKeyUsageError: The key can't decrypt with this algorithm.
    """
    blob = None
    if source.algorithm == SYMMETRIC_DEFAULT and source.blob:
        blob = _parse(call, source.blob)
    record = _find_key(service, call, operation, source, blob, grant_tokens)
    call.audit.key_arn = service.key_arn(record.account, record.key_id)
    authorize(call, operation, service, record, context=source.context, grant_tokens=grant_tokens)
    require_state(call, operation, record)
    require_algorithm(call, record, source.algorithm, encryption_algorithms(record))
    if not source.blob:
        return Opened(record, call.audit.key_arn, b"", "")
    if blob is None:
        plaintext = service.keyring.open_private_key(record).decrypt(source.algorithm, source.blob)
        return Opened(record, call.audit.key_arn, plaintext, "")
    if record.find_material(blob.material_id) is None:
        call.missing_key_id = record.key_id  # another replica may have rotated it a moment ago
        raise InvalidCiphertextError
    plaintext = service.keyring.open(record, blob.material_id).decrypt(blob, source.context_bytes)
    return Opened(record, call.audit.key_arn, plaintext, blob.material_id)


def _parse(call: Call, raw: bytes) -> CiphertextBlob:
    """Return a parsed blob. The caller isn't told what is wrong with one; the audit log has its version.

    Raises:
        InvalidCiphertextError: It can't be parsed.
    """
    try:
        return parse_blob(raw)
    except InvalidCiphertextError:
        if raw[0] != BLOB_FORMAT_V1:
            call.audit.reason = f"the ciphertext blob has the unknown format version {raw[0]}"
        raise


def _find_key(
    service: Service,
    call: Call,
    operation: str,
    source: CiphertextSource,
    blob: CiphertextBlob | None,
    grant_tokens: list[str],
) -> KeyRecord:
    if source.key_id:
        record = find_key(service, call, source.key_id, grant_tokens=grant_tokens)
        if blob is not None and record.key_id != blob.key_id:
            if record.account != call.account:
                # Whether a key of another account exists is told only to who may use it.
                call.audit.key_arn = service.key_arn(record.account, record.key_id)
                authorize(call, operation, service, record, context=source.context, grant_tokens=grant_tokens)
            raise IncorrectKeyError(
                "The key ID in the request does not identify a CMK that can perform this operation."
            )
        return record
    if blob is None:
        raise ValidationError("An asymmetric ciphertext doesn't name its KMS key: KeyId is required.")
    unnamed = find_record(service, call, blob.key_id, grant_tokens=grant_tokens)
    if unnamed is None:
        raise deny_unknown(service, call, grant_tokens, "the ciphertext names no known key")
    return unnamed

"""Encrypt: up to 4096 bytes under a KMS key.

Zone: the caller's plaintext, never kept. Source: kms-semantics section 3.
"""

import base64
from typing import Any, Final

from datakeys.keyservice.material.encryption import MAX_PLAINTEXT_BYTES
from datakeys.keyservice.operations.access import read_grant_tokens, read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import (
    ENCRYPTION_ALGORITHMS,
    SYMMETRIC_DEFAULT,
    finish,
    refuse_context,
    require_algorithm,
    stop_dry_run,
)
from datakeys.keyservice.operations.key_metadata import encryption_algorithms
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import KeyRecord

NAME: Final = "Encrypt"


def encrypt(service: Service, call: Call) -> dict[str, Any]:
    """Answer CiphertextBlob, KeyId (the key ARN) and EncryptionAlgorithm.

    Raises:
        KmsError: Any error of the operation's list, in the order of kms-semantics section 1.6.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    plaintext = members.blob("Plaintext", maximum=MAX_PLAINTEXT_BYTES)
    context = members.string_map("EncryptionContext")
    tokens = read_grant_tokens(members)
    algorithm = members.enum("EncryptionAlgorithm", ENCRYPTION_ALGORITHMS, "SYMMETRIC_DEFAULT")
    dry_run = members.boolean("DryRun")
    context_bytes = finish(members, call, key_id=key_id, context=context, dry_run=dry_run)
    refuse_context(algorithm, context)
    record = resolve(service, call, NAME, key_id, grant_tokens=tokens, context=context)
    require_algorithm(call, record, algorithm, encryption_algorithms(record))
    blob = encrypt_with(service, record, algorithm, plaintext, context_bytes=context_bytes, dry_run=dry_run)
    call.audit.ciphertext_blob = blob
    return {
        "CiphertextBlob": base64.b64encode(blob).decode(),
        "KeyId": call.audit.key_arn,
        "EncryptionAlgorithm": algorithm,
    }


def encrypt_with(
    service: Service,
    record: KeyRecord,
    algorithm: str,
    plaintext: bytes,
    *,
    context_bytes: bytes,
    dry_run: bool,
) -> bytes:
    """Return the ciphertext of 1..4096 bytes under a key that fits the algorithm.

    Raises:
        ValidationError: The plaintext is too long for an asymmetric key.
        KeyStateError: The key has no material.
        DryRunOperationError: Dry run, and it would have succeeded.
    """
    if algorithm == SYMMETRIC_DEFAULT:
        key = service.keyring.open(record, record.current_material_id)
        stop_dry_run(dry_run=dry_run)
        return key.encrypt(plaintext, context_bytes, service.random)
    ciphertext = service.keyring.open_private_key(record).encrypt(algorithm, plaintext)
    stop_dry_run(dry_run=dry_run)
    return ciphertext

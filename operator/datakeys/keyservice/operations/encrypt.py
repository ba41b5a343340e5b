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
    finish,
    require_symmetric,
    stop_dry_run,
)
from datakeys.keyservice.operations.validation import Members

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
    record = resolve(service, call, NAME, key_id, grant_tokens=tokens, context=context)
    require_symmetric(call, record, algorithm)
    key = service.keyring.open(record, record.current_material_id)
    stop_dry_run(dry_run=dry_run)
    blob = key.encrypt(plaintext, context_bytes, service.random)
    call.audit.ciphertext_blob = blob
    return {
        "CiphertextBlob": base64.b64encode(blob).decode(),
        "KeyId": call.audit.key_arn,
        "EncryptionAlgorithm": algorithm,
    }

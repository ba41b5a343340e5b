"""Decrypt: the plaintext of a blob for whom the policy chain lets have it.

Zone: the plaintext goes into the answer and nowhere else. Source: kms-semantics section 3, with its order:
validation, parse blob, resolve key, IncorrectKey, authorisation, state, usage, material, tag, DryRun. A
caller without access never learns whether the tag was right.
"""

import base64
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.arn import MAX_KEY_ID_LENGTH
from datakeys.contract.encrypted_data_key import MAX_CIPHERTEXT_BYTES
from datakeys.contract.errors import (
    AccessDeniedError,
    IncorrectKeyError,
    InvalidCiphertextError,
    UnsupportedOperationError,
)
from datakeys.keyservice.authz.policy import ACCESS_DENIED_MESSAGE
from datakeys.keyservice.material.ciphertext_blob import CiphertextBlob, parse_blob
from datakeys.keyservice.operations.access import (
    authorize,
    find_key,
    find_record,
    read_grant_tokens,
    require_state,
)
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import (
    ENCRYPTION_ALGORITHMS,
    finish,
    require_symmetric,
    stop_dry_run,
)
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import KeyRecord

NAME: Final = "Decrypt"


@dataclass(slots=True)
class _Request:
    ciphertext_blob: bytes
    key_id: str
    context: dict[str, str]
    context_bytes: bytes
    grant_tokens: list[str]
    algorithm: str
    dry_run: bool


def decrypt(service: Service, call: Call) -> dict[str, Any]:
    """Answer Plaintext, KeyId (the key ARN), EncryptionAlgorithm and KeyMaterialId.

    Raises:
        KmsError: Any error of the operation's list, in the order of kms-semantics section 3.
    """
    request = _parse(call)
    call.audit.ciphertext_blob = request.ciphertext_blob
    blob = parse_blob(request.ciphertext_blob)
    record = _find_key(service, call, request, blob)
    call.audit.key_arn = service.key_arn(record.account, record.key_id)
    authorize(call, NAME, service, record, context=request.context, grant_tokens=request.grant_tokens)
    require_state(call, NAME, record)
    require_symmetric(call, record, request.algorithm)
    if record.find_material(blob.material_id) is None:
        raise InvalidCiphertextError
    key = service.keyring.open(record, blob.material_id)
    plaintext = key.decrypt(blob, request.context_bytes)
    stop_dry_run(dry_run=request.dry_run)
    return {
        "KeyId": call.audit.key_arn,
        "Plaintext": base64.b64encode(plaintext).decode(),
        "EncryptionAlgorithm": request.algorithm,
        "KeyMaterialId": key.material_id,
    }


def _parse(call: Call) -> _Request:
    members = Members(call.body)
    key_id = members.string("KeyId", minimum=1, maximum=MAX_KEY_ID_LENGTH)
    ciphertext_blob = members.blob("CiphertextBlob", maximum=MAX_CIPHERTEXT_BYTES)
    context = members.string_map("EncryptionContext")
    tokens = read_grant_tokens(members)
    algorithm = members.enum("EncryptionAlgorithm", ENCRYPTION_ALGORITHMS, "SYMMETRIC_DEFAULT")
    dry_run = members.boolean("DryRun")
    recipient = members.has("Recipient")
    context_bytes = finish(members, call, key_id=key_id, context=context, dry_run=dry_run)
    if recipient:
        raise UnsupportedOperationError("Recipient is not supported: there are no enclaves here.")
    return _Request(ciphertext_blob, key_id, context, context_bytes, tokens, algorithm, dry_run)


def _find_key(service: Service, call: Call, request: _Request, blob: CiphertextBlob) -> KeyRecord:
    if request.key_id:
        record = find_key(service, call, request.key_id)
        if record.key_id != blob.key_id:
            raise IncorrectKeyError(
                "The key ID in the request does not identify a CMK that can perform this operation."
            )
        return record
    unnamed = find_record(service, call, blob.key_id)
    if unnamed is None:
        call.audit.reason = "the ciphertext names no known key"
        raise AccessDeniedError(ACCESS_DENIED_MESSAGE)
    return unnamed

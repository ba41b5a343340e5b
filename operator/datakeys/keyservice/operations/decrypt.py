"""Decrypt: the plaintext of a ciphertext for whom the policy chain lets have it.

Zone: the plaintext goes into the answer and nowhere else. Source: kms-semantics section 3.
"""

import base64
from typing import Any, Final

from datakeys.contract.arn import MAX_KEY_ID_LENGTH
from datakeys.keyservice.operations.access import read_grant_tokens
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.ciphertext_source import CiphertextSource, open_ciphertext, read_blob
from datakeys.keyservice.operations.crypto_request import (
    ENCRYPTION_ALGORITHMS,
    SYMMETRIC_DEFAULT,
    finish,
    refuse_context,
    refuse_recipient,
    stop_dry_run,
)
from datakeys.keyservice.operations.validation import Members

NAME: Final = "Decrypt"


def decrypt(service: Service, call: Call) -> dict[str, Any]:
    """Answer Plaintext, KeyId (the key ARN), EncryptionAlgorithm, and KeyMaterialId for a symmetric key.

    Raises:
        KmsError: Any error of the operation's list, in the order of kms-semantics section 3.
    """
    source, tokens, dry_run = _parse(call)
    call.audit.ciphertext_blob = source.blob
    opened = open_ciphertext(service, call, NAME, source, grant_tokens=tokens)
    stop_dry_run(dry_run=dry_run)
    answer = {
        "KeyId": opened.key_arn,
        "Plaintext": base64.b64encode(opened.plaintext).decode(),
        "EncryptionAlgorithm": source.algorithm,
    }
    if opened.material_id:
        answer["KeyMaterialId"] = opened.material_id
    return answer


def _parse(call: Call) -> tuple[CiphertextSource, list[str], bool]:
    members = Members(call.body)
    dry_run = members.boolean("DryRun")
    key_id = members.string("KeyId", minimum=1, maximum=MAX_KEY_ID_LENGTH)
    blob = read_blob(members, "KeyId", dry_run=dry_run)
    context = members.string_map("EncryptionContext")
    tokens = read_grant_tokens(members)
    algorithm = members.enum("EncryptionAlgorithm", ENCRYPTION_ALGORITHMS, SYMMETRIC_DEFAULT)
    refuse_recipient(members)
    context_bytes = finish(members, call, key_id=key_id, context=context, dry_run=dry_run)
    refuse_context(algorithm, context)
    return CiphertextSource(blob, key_id, context, context_bytes, algorithm), tokens, dry_run

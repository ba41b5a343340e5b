"""ReEncrypt: from one KMS key or encryption context to another, without the plaintext leaving the service.

Zone: the plaintext passes and isn't kept. The caller needs ReEncryptFrom on the source key and ReEncryptTo on
the destination key; the controller may bring bound data keys under newer material of the same key. Source:
AWS KMS API, ReEncrypt; kms-semantics section 3.
"""

import base64
from typing import Any, Final

from datakeys.contract.arn import MAX_KEY_ID_LENGTH
from datakeys.contract.encryption_context import canonical_bytes, check_size
from datakeys.keyservice.operations.access import read_grant_tokens, read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.ciphertext_source import CiphertextSource, open_ciphertext, read_blob
from datakeys.keyservice.operations.crypto_request import (
    ENCRYPTION_ALGORITHMS,
    SYMMETRIC_DEFAULT,
    finish,
    refuse_context,
    require_algorithm,
)
from datakeys.keyservice.operations.encrypt import encrypt_with
from datakeys.keyservice.operations.key_metadata import encryption_algorithms
from datakeys.keyservice.operations.validation import Members

FROM: Final = "ReEncryptFrom"
TO: Final = "ReEncryptTo"
_ALIAS: Final = "alias/"


def re_encrypt(service: Service, call: Call) -> dict[str, Any]:
    """Answer CiphertextBlob, both keys' ARNs, algorithms and, if symmetric, material ids.

    Raises:
        KmsError: Any error of the operation's list; those of the source key come first.
    """
    members = Members(call.body)
    dry_run = members.boolean("DryRun")
    source_key_id = members.string("SourceKeyId", minimum=1, maximum=MAX_KEY_ID_LENGTH)
    blob = read_blob(members, "SourceKeyId", dry_run=dry_run)
    source_context = members.string_map("SourceEncryptionContext")
    source_algorithm = members.enum("SourceEncryptionAlgorithm", ENCRYPTION_ALGORITHMS, SYMMETRIC_DEFAULT)
    key_id = read_key_id(members, "DestinationKeyId")
    context = members.string_map("DestinationEncryptionContext")
    algorithm = members.enum("DestinationEncryptionAlgorithm", ENCRYPTION_ALGORITHMS, SYMMETRIC_DEFAULT)
    tokens = read_grant_tokens(members)
    source_bytes = finish(members, call, key_id=key_id, context=source_context, dry_run=dry_run)
    check_size(context)
    refuse_context(source_algorithm, source_context)
    refuse_context(algorithm, context)
    source = CiphertextSource(blob, source_key_id, source_context, source_bytes, source_algorithm)
    # An alias could lead to two keys within one call.
    same_key = source_key_id == key_id and _ALIAS not in key_id
    call.renewal = same_key and source_context == context and source_algorithm == algorithm

    call.audit.source_context, call.audit.context = source_context, context
    call.audit.key_arn = source_key_id
    opened = open_ciphertext(service, call, FROM, source, grant_tokens=tokens)
    call.audit.source_key_arn, call.audit.key_arn = opened.key_arn, key_id
    record = resolve(service, call, TO, key_id, grant_tokens=tokens, context=context)
    require_algorithm(call, record, algorithm, encryption_algorithms(record))
    ciphertext = encrypt_with(
        service,
        record,
        algorithm,
        opened.plaintext,
        context_bytes=canonical_bytes(context),
        dry_run=dry_run,
    )
    call.audit.ciphertext_blob = ciphertext
    answer = {
        "CiphertextBlob": base64.b64encode(ciphertext).decode(),
        "SourceKeyId": opened.key_arn,
        "KeyId": call.audit.key_arn,
        "SourceEncryptionAlgorithm": source_algorithm,
        "DestinationEncryptionAlgorithm": algorithm,
    }
    if opened.material_id:
        answer["SourceKeyMaterialId"] = opened.material_id
    if algorithm == SYMMETRIC_DEFAULT and record.current_material_id is not None:
        answer["DestinationKeyMaterialId"] = record.current_material_id
    return answer

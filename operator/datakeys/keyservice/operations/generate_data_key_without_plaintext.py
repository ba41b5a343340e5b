"""GenerateDataKeyWithoutPlaintext: a new data key, of which only the ciphertext leaves.

Zone: the plaintext exists inside one call of `material` only. Source: kms-semantics section 1.
"""

import base64
from typing import Any, Final

from datakeys.keyservice.material.data_key import generate_data_key_without_plaintext as make_blob
from datakeys.keyservice.operations.access import resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import (
    parse_data_key_request,
    require_symmetric,
    stop_dry_run,
)

NAME: Final = "GenerateDataKeyWithoutPlaintext"


def generate_data_key_without_plaintext(service: Service, call: Call) -> dict[str, Any]:
    """Answer CiphertextBlob, KeyId (the key ARN) and KeyMaterialId; there is no member Plaintext.

    Raises:
        KmsError: Any error of the operation's list, in the order of kms-semantics section 1.6.
    """
    request = parse_data_key_request(call)
    record = resolve(
        service, call, NAME, request.key_id, grant_tokens=request.grant_tokens, context=request.context
    )
    require_symmetric(call, record)
    key = service.keyring.open(record, record.current_material_id)
    stop_dry_run(dry_run=request.dry_run)
    blob = make_blob(key, request.number_of_bytes, request.context_bytes, service.random)
    call.audit.ciphertext_blob = blob
    return {
        "CiphertextBlob": base64.b64encode(blob).decode(),
        "KeyId": call.audit.key_arn,
        "KeyMaterialId": key.material_id,
    }

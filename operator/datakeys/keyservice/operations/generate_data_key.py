"""GenerateDataKey: a new data key, plaintext and ciphertext.

Zone: the plaintext goes into the answer and nowhere else. Source: kms-semantics section 1.
"""

import base64
from typing import Any, Final

from datakeys.keyservice.material.data_key import generate_data_key as make_data_key
from datakeys.keyservice.operations.access import resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import (
    parse_data_key_request,
    require_symmetric,
    stop_dry_run,
)

NAME: Final = "GenerateDataKey"


def generate_data_key(service: Service, call: Call) -> dict[str, Any]:
    """Answer CiphertextBlob, Plaintext, KeyId (the key ARN) and KeyMaterialId.

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
    plaintext, blob = make_data_key(key, request.number_of_bytes, request.context_bytes, service.random)
    call.audit.ciphertext_blob = blob
    return {
        "CiphertextBlob": base64.b64encode(blob).decode(),
        "Plaintext": base64.b64encode(plaintext).decode(),
        "KeyId": call.audit.key_arn,
        "KeyMaterialId": key.material_id,
    }

"""GenerateRandom: random bytes from the operating system's generator.

Zone: the bytes go into the answer and nowhere else. Source: AWS KMS API, GenerateRandom.
"""

import base64
from typing import Any, Final

from datakeys.contract.errors import UnsupportedOperationError, ValidationError
from datakeys.keyservice.operations.access import authorize
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import refuse_recipient
from datakeys.keyservice.operations.validation import Members

NAME: Final = "GenerateRandom"
MAX_BYTES: Final = 1024


def generate_random(service: Service, call: Call) -> dict[str, Any]:
    """Answer Plaintext: 1..1024 bytes.

    Raises:
        ValidationError: NumberOfBytes is missing or out of bounds, or a Recipient is given.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: A custom key store is named.
    """
    members = Members(call.body)
    number = members.integer("NumberOfBytes", minimum=1, maximum=MAX_BYTES)
    store_id = members.string("CustomKeyStoreId", minimum=1, maximum=64)
    refuse_recipient(members)
    members.finish()
    if number is None:
        raise ValidationError("Please specify either number of bytes or key spec.")
    authorize(call, NAME, service, None)
    if store_id:
        raise UnsupportedOperationError("Custom key stores are not supported.")
    return {"Plaintext": base64.b64encode(service.random(number)).decode()}

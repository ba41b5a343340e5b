"""GenerateMac and VerifyMac: the operations of HMAC keys.

Zone: HMAC keys as opaque handles. Source: AWS KMS API, GenerateMac and VerifyMac.
"""

import base64
from typing import Any, Final

from datakeys.contract.errors import KmsInvalidMacError
from datakeys.keyservice.operations.access import read_grant_tokens, read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import require_algorithm, stop_dry_run
from datakeys.keyservice.operations.key_metadata import mac_algorithms
from datakeys.keyservice.operations.validation import Members

MAX_MESSAGE_BYTES: Final = 4096
MAX_MAC_BYTES: Final = 6144
#: Source: AWS KMS API, shape MacAlgorithmSpec.
MAC_ALGORITHMS: Final = ("HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512")


def generate_mac(service: Service, call: Call) -> dict[str, Any]:
    """Answer Mac (28, 32, 48 or 64 bytes), MacAlgorithm and KeyId (the key ARN).

    Raises:
        KmsError: Any error of the operation's list, in the order of kms-semantics section 1.6.
    """
    return _serve(service, call, "GenerateMac")


def verify_mac(service: Service, call: Call) -> dict[str, Any]:
    """Answer MacValid (true), MacAlgorithm and KeyId (the key ARN).

    Raises:
        KmsInvalidMacError: The MAC isn't one of this key over this message.
        KmsError: Any other error of the operation's list.
    """
    return _serve(service, call, "VerifyMac")


def _serve(service: Service, call: Call, operation: str) -> dict[str, Any]:
    members = Members(call.body)
    key_id = read_key_id(members)
    message = members.blob("Message", maximum=MAX_MESSAGE_BYTES)
    given = members.blob("Mac", maximum=MAX_MAC_BYTES) if operation == "VerifyMac" else None
    algorithm = members.required_enum("MacAlgorithm", MAC_ALGORITHMS)
    tokens = read_grant_tokens(members)
    dry_run = members.boolean("DryRun")
    members.finish()
    call.audit.key_arn = key_id
    call.audit.dry_run = dry_run
    record = resolve(service, call, operation, key_id, grant_tokens=tokens)
    require_algorithm(call, record, algorithm, mac_algorithms(record))
    key = service.keyring.open_mac_key(record)
    if given is not None and not key.matches(message, given):
        raise KmsInvalidMacError
    stop_dry_run(dry_run=dry_run)
    answer = {"KeyId": call.audit.key_arn, "MacAlgorithm": algorithm}
    if given is not None:
        return {**answer, "MacValid": True}
    return {**answer, "Mac": base64.b64encode(key.compute(message)).decode()}

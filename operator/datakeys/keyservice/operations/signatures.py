"""Sign, Verify and GetPublicKey: the operations of asymmetric keys.

Zone: private keys as opaque handles. Source: AWS KMS API; kms-semantics section 4.7.
"""

import base64
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.errors import UnsupportedOperationError
from datakeys.contract.key_types import KeySpec, KeyUsage
from datakeys.keyservice.operations.access import read_grant_tokens, read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import require_algorithm, stop_dry_run
from datakeys.keyservice.operations.key_metadata import build_algorithms, signing_algorithms
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import KeyRecord

MAX_MESSAGE_BYTES: Final = 4096
MAX_SIGNATURE_BYTES: Final = 6144
MESSAGE_TYPES: Final = ("RAW", "DIGEST", "EXTERNAL_MU")
#: Source: AWS KMS API, shape SigningAlgorithmSpec.
SIGNING_ALGORITHMS: Final = (
    *(f"RSASSA_PSS_SHA_{bits}" for bits in (256, 384, 512)),
    *(f"RSASSA_PKCS1_V1_5_SHA_{bits}" for bits in (256, 384, 512)),
    *(f"ECDSA_SHA_{bits}" for bits in (256, 384, 512)),
    "SM2DSA",
    "ML_DSA_SHAKE_256",
    "ED25519_SHA_512",
    "ED25519_PH_SHA_512",
)


@dataclass(frozen=True, slots=True)
class _Request:
    key_id: str
    message: bytes
    message_type: str
    algorithm: str
    signature: bytes
    grant_tokens: list[str]
    dry_run: bool


def sign(service: Service, call: Call) -> dict[str, Any]:
    """Answer Signature, SigningAlgorithm and KeyId (the key ARN).

    Raises:
        KmsError: Any error of the operation's list, in the order of kms-semantics section 1.6.
    """
    request = _parse(call, signed=False)
    record = _resolve(service, call, "Sign", request)
    signature = service.keyring.open_private_key(record).sign(
        request.algorithm, request.message, request.message_type
    )
    stop_dry_run(dry_run=request.dry_run)
    return {
        "KeyId": call.audit.key_arn,
        "Signature": base64.b64encode(signature).decode(),
        "SigningAlgorithm": request.algorithm,
    }


def verify(service: Service, call: Call) -> dict[str, Any]:
    """Answer SignatureValid (true), SigningAlgorithm and KeyId (the key ARN).

    Raises:
        KmsInvalidSignatureError: The signature isn't one of this key over this message.
        KmsError: Any other error of the operation's list.
    """
    request = _parse(call, signed=True)
    record = _resolve(service, call, "Verify", request)
    key = service.keyring.open_private_key(record)
    key.verify(request.algorithm, request.message, request.message_type, request.signature)
    stop_dry_run(dry_run=request.dry_run)
    return {"KeyId": call.audit.key_arn, "SignatureValid": True, "SigningAlgorithm": request.algorithm}


def get_public_key(service: Service, call: Call) -> dict[str, Any]:
    """Answer PublicKey (SubjectPublicKeyInfo in DER) and what the key is.

    Raises:
        UnsupportedOperationError: The key is symmetric or an HMAC key: it has no public key.
        KmsError: Any other error of the operation's list.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    tokens = read_grant_tokens(members)
    members.finish()
    record = resolve(service, call, "GetPublicKey", key_id, grant_tokens=tokens)
    if record.key_spec is KeySpec.SYMMETRIC_DEFAULT or record.key_usage is KeyUsage.GENERATE_VERIFY_MAC:
        raise UnsupportedOperationError(f"{call.audit.key_arn} has no public key: it isn't asymmetric.")
    return {
        "KeyId": call.audit.key_arn,
        "PublicKey": base64.b64encode(service.keyring.open_private_key(record).public_der()).decode(),
        "CustomerMasterKeySpec": record.key_spec,
        "KeySpec": record.key_spec,
        "KeyUsage": record.key_usage,
        **build_algorithms(record),
    }


def _parse(call: Call, *, signed: bool) -> _Request:
    members = Members(call.body)
    key_id = read_key_id(members)
    message = members.blob("Message", maximum=MAX_MESSAGE_BYTES)
    message_type = members.enum("MessageType", MESSAGE_TYPES, "RAW")
    signature = members.blob("Signature", maximum=MAX_SIGNATURE_BYTES) if signed else b""
    algorithm = members.required_enum("SigningAlgorithm", SIGNING_ALGORITHMS)
    tokens = read_grant_tokens(members)
    dry_run = members.boolean("DryRun")
    members.finish()
    call.audit.key_arn = key_id
    call.audit.dry_run = dry_run
    return _Request(key_id, message, message_type, algorithm, signature, tokens, dry_run)


def _resolve(service: Service, call: Call, operation: str, request: _Request) -> KeyRecord:
    record = resolve(service, call, operation, request.key_id, grant_tokens=request.grant_tokens)
    require_algorithm(call, record, request.algorithm, signing_algorithms(record))
    return record

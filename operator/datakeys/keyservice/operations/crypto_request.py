"""What the cryptographic operations share: their common members, the usage rule and DryRun.

Zone: no key material. Source: kms-semantics sections 1.1, 1.5 and 1.6.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from datakeys.contract.encryption_context import canonical_bytes, check_size
from datakeys.contract.errors import DryRunOperationError, InvalidKeyUsageError, ValidationError
from datakeys.contract.key_types import (
    DATA_KEY_BYTES,
    MAX_DATA_KEY_BYTES,
    MIN_DATA_KEY_BYTES,
    DataKeySpec,
    KeyOrigin,
    KeySpec,
    KeyUsage,
)
from datakeys.keyservice.operations.access import read_grant_tokens, read_key_id
from datakeys.keyservice.operations.call import Call
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import KeyRecord

SYMMETRIC_DEFAULT: Final = "SYMMETRIC_DEFAULT"
#: Source: AWS KMS API, shape EncryptionAlgorithmSpec.
ENCRYPTION_ALGORITHMS: Final = (SYMMETRIC_DEFAULT, "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE")

_ALGORITHM_MEMBERS: Final = frozenset(
    {"EncryptionAlgorithm", "SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm"}
)
_STORE_ORIGINS: Final = frozenset({KeyOrigin.AWS_CLOUDHSM, KeyOrigin.EXTERNAL_KEY_STORE})
_DRY_RUN_TEXT: Final = "The request would have succeeded, but the DryRun option is set."
_BOTH_OR_NEITHER: Final = "Please specify either number of bytes or key spec."
_DATA_KEY_SPECS: Final = tuple(spec.value for spec in (DataKeySpec.AES_256, DataKeySpec.AES_128))
#: By the text: to look a member of an enumeration up by its value takes longer than all else here.
_SPEC_BYTES: Final = {spec.value: size for spec, size in DATA_KEY_BYTES.items()}


@dataclass(slots=True)
class DataKeyRequest:
    """The members of GenerateDataKey and GenerateDataKeyWithoutPlaintext."""

    key_id: str
    number_of_bytes: int
    context: dict[str, str]
    context_bytes: bytes
    grant_tokens: list[str]
    dry_run: bool


def finish(members: Members, call: Call, *, key_id: str, context: dict[str, str], dry_run: bool) -> bytes:
    """Report broken constraints; if there are none, note for the audit record what the call is about.

    Returns:
        The canonical bytes of the context.

    Raises:
        ValidationError: A constraint is broken, or the context is too long or not valid Unicode.
    """
    members.finish()
    check_size(context)
    context_bytes = canonical_bytes(context)
    call.audit.key_arn = key_id
    call.audit.context = context
    call.audit.dry_run = dry_run
    return context_bytes


def refuse_recipient(members: Members) -> None:
    """Collect that a Recipient is given: the plaintext must not go to whom no enclave protects."""
    if members.has("Recipient"):
        members.fail(
            "Value at 'recipient' failed to satisfy constraint: Member must be null: no enclaves here"
        )


def parse_data_key_request(call: Call) -> DataKeyRequest:
    """Read and check the members of a data key request.

    Raises:
        SerializationError: A member has the wrong JSON type.
        ValidationError: Constraints are broken, or not exactly one of the two sizes is given.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    spec = members.enum("KeySpec", _DATA_KEY_SPECS)
    number = members.integer("NumberOfBytes", minimum=MIN_DATA_KEY_BYTES, maximum=MAX_DATA_KEY_BYTES)
    context = members.string_map("EncryptionContext")
    tokens = read_grant_tokens(members)
    dry_run = members.boolean("DryRun")
    refuse_recipient(members)
    context_bytes = finish(members, call, key_id=key_id, context=context, dry_run=dry_run)
    if bool(spec) == (number is not None):
        raise ValidationError(_BOTH_OR_NEITHER)
    size = number if number is not None else _SPEC_BYTES[spec]
    return DataKeyRequest(key_id, size, context, context_bytes, tokens, dry_run)


def require_symmetric(call: Call, record: KeyRecord) -> None:
    """Check that a key can encrypt and make data keys: symmetric, and not of a custom key store.

    Raises:
        InvalidKeyUsageError: It can't.
    """
    if record.key_usage is not KeyUsage.ENCRYPT_DECRYPT:
        raise InvalidKeyUsageError(
            f"{call.audit.key_arn} key usage is {record.key_usage} which is not valid for this operation."
        )
    if record.key_spec is not KeySpec.SYMMETRIC_DEFAULT:
        raise InvalidKeyUsageError(
            f"{call.audit.key_arn} with key spec {record.key_spec} is not valid for this operation "
            f"with algorithm {SYMMETRIC_DEFAULT}."
        )
    if record.origin in _STORE_ORIGINS:
        raise InvalidKeyUsageError(f"{call.audit.key_arn} is in a custom key store.")


def require_algorithm(call: Call, record: KeyRecord, algorithm: str, fitting: Sequence[str]) -> None:
    """Check that a key's usage, spec and origin can do an operation with an algorithm.

    Args:
        call: The call.
        record: The key.
        algorithm: The algorithm that is asked for.
        fitting: The algorithms of this key for this operation; none if its usage is another.

    Raises:
        InvalidKeyUsageError: They can't.
    """
    if not fitting:
        raise InvalidKeyUsageError(
            f"{call.audit.key_arn} key usage is {record.key_usage} which is not valid for this operation."
        )
    if algorithm not in fitting:
        raise InvalidKeyUsageError(
            f"Algorithm {algorithm} is incompatible with key spec {record.key_spec} of {call.audit.key_arn}."
        )
    if record.origin in _STORE_ORIGINS:
        raise InvalidKeyUsageError(f"{call.audit.key_arn} is in a custom key store.")


def refuse_context(algorithm: str, context: Mapping[str, str]) -> None:
    """Refuse an encryption context for an algorithm that can't authenticate one.

    Raises:
        ValidationError: There is one, and the algorithm is asymmetric.
    """
    if context and algorithm != SYMMETRIC_DEFAULT:
        raise ValidationError(f"EncryptionContext is not supported with the algorithm {algorithm}.")


def is_asymmetric(body: Mapping[str, object]) -> bool:
    """Return whether a body of Encrypt, Decrypt or ReEncrypt asks for RSA, which takes milliseconds."""
    return not _ALGORITHM_MEMBERS.isdisjoint(body) and any(
        body.get(name) not in (None, SYMMETRIC_DEFAULT) for name in _ALGORITHM_MEMBERS
    )


def stop_dry_run(*, dry_run: bool) -> None:
    """End a dry run that would have succeeded.

    Raises:
        DryRunOperationError: ``dry_run`` is set.
    """
    if dry_run:
        raise DryRunOperationError(_DRY_RUN_TEXT)

"""KeyMetadata, as DescribeKey and CreateKey answer it.

Zone: no secrets. Source: AWS KMS API, shape KeyMetadata; which lists of algorithms appear depends on the
usage.
"""

from typing import Any, Final

from datakeys.contract.key_types import KeyOrigin, KeySpec, KeyState, KeyUsage
from datakeys.keyservice.store.records import KeyRecord

_RSA_SIGNING: Final = [
    f"RSASSA_{padding}_SHA_{bits}" for padding in ("PKCS1_V1_5", "PSS") for bits in (256, 384, 512)
]
_RSA_ENCRYPTION: Final = ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]

_ENCRYPTION: Final[dict[KeySpec, list[str]]] = {
    KeySpec.SYMMETRIC_DEFAULT: ["SYMMETRIC_DEFAULT"],
    KeySpec.RSA_2048: _RSA_ENCRYPTION,
    KeySpec.RSA_3072: _RSA_ENCRYPTION,
    KeySpec.RSA_4096: _RSA_ENCRYPTION,
    KeySpec.SM2: ["SM2PKE"],
}
_SIGNING: Final[dict[KeySpec, list[str]]] = {
    KeySpec.RSA_2048: _RSA_SIGNING,
    KeySpec.RSA_3072: _RSA_SIGNING,
    KeySpec.RSA_4096: _RSA_SIGNING,
    KeySpec.ECC_NIST_P256: ["ECDSA_SHA_256"],
    KeySpec.ECC_NIST_P384: ["ECDSA_SHA_384"],
    KeySpec.ECC_NIST_P521: ["ECDSA_SHA_512"],
    KeySpec.ECC_SECG_P256K1: ["ECDSA_SHA_256"],
    KeySpec.ECC_NIST_EDWARDS25519: ["ED25519_SHA_512"],
    KeySpec.ML_DSA_44: ["ML_DSA_SHAKE_256"],
    KeySpec.ML_DSA_65: ["ML_DSA_SHAKE_256"],
    KeySpec.ML_DSA_87: ["ML_DSA_SHAKE_256"],
    KeySpec.SM2: ["SM2DSA"],
}


def encryption_algorithms(record: KeyRecord) -> list[str]:
    """Return the algorithms that a key encrypts with; none for a key of another usage."""
    return _ENCRYPTION[record.key_spec] if record.key_usage is KeyUsage.ENCRYPT_DECRYPT else []


def signing_algorithms(record: KeyRecord) -> list[str]:
    """Return the algorithms that a key signs with; none for a key of another usage."""
    return _SIGNING[record.key_spec] if record.key_usage is KeyUsage.SIGN_VERIFY else []


def mac_algorithms(record: KeyRecord) -> list[str]:
    """Return the algorithms that a key makes MACs with; none for a key of another usage."""
    if record.key_usage is not KeyUsage.GENERATE_VERIFY_MAC:
        return []
    return [record.key_spec.replace("HMAC_", "HMAC_SHA_")]


def build_key_metadata(record: KeyRecord, key_arn: str) -> dict[str, Any]:
    """Return the KeyMetadata of a key; times are seconds since the epoch."""
    metadata: dict[str, Any] = {
        "AWSAccountId": record.account,
        "KeyId": record.key_id,
        "Arn": key_arn,
        "CreationDate": record.created_at,
        "Enabled": record.state is KeyState.ENABLED,
        "Description": record.description,
        "KeyUsage": record.key_usage,
        "KeyState": record.state,
        "Origin": record.origin,
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": record.key_spec,
        "KeySpec": record.key_spec,
        "MultiRegion": False,
        **build_algorithms(record),
    }
    if record.state is KeyState.PENDING_DELETION and record.deletion_at is not None:
        metadata["DeletionDate"] = record.deletion_at
    if record.current_material_id is not None and record.key_spec is KeySpec.SYMMETRIC_DEFAULT:
        metadata["CurrentKeyMaterialId"] = record.current_material_id
    if record.origin is KeyOrigin.EXTERNAL:
        metadata |= _build_expiration(record)
    if record.custom_key_store_id:
        metadata["CustomKeyStoreId"] = record.custom_key_store_id
    return metadata


def _build_expiration(record: KeyRecord) -> dict[str, Any]:
    """Return ExpirationModel, and ValidTo of the needed material that expires first; nothing without any."""
    needed = [material for material in record.materials if material.sealed and not material.pending]
    if not needed:
        return {}
    dates = [material.valid_to for material in needed if material.valid_to is not None]
    if not dates:
        return {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
    return {"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": min(dates)}


def build_algorithms(record: KeyRecord) -> dict[str, list[str]]:
    """Return the member that lists a key's algorithms; its name depends on the usage."""
    match record.key_usage:
        case KeyUsage.ENCRYPT_DECRYPT:
            return {"EncryptionAlgorithms": _ENCRYPTION[record.key_spec]}
        case KeyUsage.SIGN_VERIFY:
            return {"SigningAlgorithms": _SIGNING[record.key_spec]}
        case KeyUsage.GENERATE_VERIFY_MAC:
            return {"MacAlgorithms": mac_algorithms(record)}
        case KeyUsage.KEY_AGREEMENT:
            return {"KeyAgreementAlgorithms": ["ECDH"]}
        case KeyUsage.ENCAPSULATE_DECAPSULATE:
            return {"EncapsulationAlgorithms": ["ML_KEM"]}

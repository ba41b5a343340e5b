"""Key specs, usages, origins and states, and which of them fit together.

Zone: no secrets, no I/O. Source: AWS KMS API, shapes KeySpec, KeyUsageType, OriginType, KeyState.
"""

from enum import StrEnum
from typing import Final


class KeyUsage(StrEnum):
    """What a KMS key may be used for; fixed at creation."""

    ENCRYPT_DECRYPT = "ENCRYPT_DECRYPT"
    SIGN_VERIFY = "SIGN_VERIFY"
    GENERATE_VERIFY_MAC = "GENERATE_VERIFY_MAC"
    KEY_AGREEMENT = "KEY_AGREEMENT"
    ENCAPSULATE_DECAPSULATE = "ENCAPSULATE_DECAPSULATE"


class KeySpec(StrEnum):
    """The type of key material; fixed at creation. Only SYMMETRIC_DEFAULT makes data keys."""

    SYMMETRIC_DEFAULT = "SYMMETRIC_DEFAULT"
    RSA_2048 = "RSA_2048"
    RSA_3072 = "RSA_3072"
    RSA_4096 = "RSA_4096"
    ECC_NIST_P256 = "ECC_NIST_P256"
    ECC_NIST_P384 = "ECC_NIST_P384"
    ECC_NIST_P521 = "ECC_NIST_P521"
    ECC_NIST_EDWARDS25519 = "ECC_NIST_EDWARDS25519"
    ECC_SECG_P256K1 = "ECC_SECG_P256K1"
    ML_DSA_44 = "ML_DSA_44"
    ML_DSA_65 = "ML_DSA_65"
    ML_DSA_87 = "ML_DSA_87"
    ML_KEM_512 = "ML_KEM_512"
    ML_KEM_768 = "ML_KEM_768"
    ML_KEM_1024 = "ML_KEM_1024"
    HMAC_224 = "HMAC_224"
    HMAC_256 = "HMAC_256"
    HMAC_384 = "HMAC_384"
    HMAC_512 = "HMAC_512"
    SM2 = "SM2"


class KeyOrigin(StrEnum):
    """Where the key material comes from; fixed at creation."""

    AWS_KMS = "AWS_KMS"
    EXTERNAL = "EXTERNAL"
    AWS_CLOUDHSM = "AWS_CLOUDHSM"
    EXTERNAL_KEY_STORE = "EXTERNAL_KEY_STORE"


class KeyState(StrEnum):
    """The state of a KMS key; decides which operations it takes."""

    CREATING = "Creating"
    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"
    PENDING_IMPORT = "PendingImport"
    PENDING_REPLICA_DELETION = "PendingReplicaDeletion"
    UNAVAILABLE = "Unavailable"
    UPDATING = "Updating"


class DataKeySpec(StrEnum):
    """The length of a data key by name: 16 or 32 bytes."""

    AES_128 = "AES_128"
    AES_256 = "AES_256"


DATA_KEY_BYTES: Final = {DataKeySpec.AES_128: 16, DataKeySpec.AES_256: 32}
MIN_DATA_KEY_BYTES: Final = 1
MAX_DATA_KEY_BYTES: Final = 1024

_SIGN = frozenset({KeyUsage.SIGN_VERIFY})
_RSA = frozenset({KeyUsage.ENCRYPT_DECRYPT, KeyUsage.SIGN_VERIFY})
_NIST_CURVE = frozenset({KeyUsage.SIGN_VERIFY, KeyUsage.KEY_AGREEMENT})
_KEM = frozenset({KeyUsage.ENCAPSULATE_DECAPSULATE})
_MAC = frozenset({KeyUsage.GENERATE_VERIFY_MAC})

#: Which usages a key spec allows. Source: AWS KMS API, CreateKey, parameter KeyUsage.
ALLOWED_USAGES: Final[dict[KeySpec, frozenset[KeyUsage]]] = {
    KeySpec.SYMMETRIC_DEFAULT: frozenset({KeyUsage.ENCRYPT_DECRYPT}),
    KeySpec.RSA_2048: _RSA,
    KeySpec.RSA_3072: _RSA,
    KeySpec.RSA_4096: _RSA,
    KeySpec.ECC_NIST_P256: _NIST_CURVE,
    KeySpec.ECC_NIST_P384: _NIST_CURVE,
    KeySpec.ECC_NIST_P521: _NIST_CURVE,
    KeySpec.ECC_NIST_EDWARDS25519: _SIGN,
    KeySpec.ECC_SECG_P256K1: _SIGN,
    KeySpec.ML_DSA_44: _SIGN,
    KeySpec.ML_DSA_65: _SIGN,
    KeySpec.ML_DSA_87: _SIGN,
    KeySpec.ML_KEM_512: _KEM,
    KeySpec.ML_KEM_768: _KEM,
    KeySpec.ML_KEM_1024: _KEM,
    KeySpec.HMAC_224: _MAC,
    KeySpec.HMAC_256: _MAC,
    KeySpec.HMAC_384: _MAC,
    KeySpec.HMAC_512: _MAC,
    KeySpec.SM2: frozenset({KeyUsage.ENCRYPT_DECRYPT, KeyUsage.SIGN_VERIFY, KeyUsage.KEY_AGREEMENT}),
}

MIN_PENDING_WINDOW_DAYS: Final = 7
MAX_PENDING_WINDOW_DAYS: Final = 30
DEFAULT_PENDING_WINDOW_DAYS: Final = 30
MIN_ROTATION_PERIOD_DAYS: Final = 90
MAX_ROTATION_PERIOD_DAYS: Final = 2560
DEFAULT_ROTATION_PERIOD_DAYS: Final = 365
